"""``Predictor`` in Spark, as docs/scale.md shows it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from fcnkit.runtime import Predictor, Segmenter, find_jobs, predict_files
from tests.runtime.pictures import write_pictures

pyspark = pytest.importorskip("pyspark")
if shutil.which("java") is None:
    pytest.skip("Spark needs Java", allow_module_level=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_map_partitions(
    model: Path, segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyspark.sql import SparkSession

    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)  # else the first python3 of the PATH
    source = write_pictures(tmp_path / "in", 12)
    listed, out = tmp_path / "list.txt", tmp_path / "out"
    listed.write_text("".join(f"{path}\n" for path in sorted(source.iterdir())))
    session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    spark = session.getOrCreate()
    try:
        predictor = Predictor(model=str(model), root=str(source), out=str(out), threads=1)
        paths = spark.sparkContext.textFile(str(listed), minPartitions=3)
        records = paths.mapPartitions(predictor)
        assert records.filter(lambda record: record["status"] == "failed").count() == 0
    finally:
        spark.stop()
    one = tmp_path / "one"
    list(predict_files(segmenter, find_jobs([source], one), one, model_sha256="ab"))
    assert {path.name: path.read_bytes() for path in out.glob("*.png")} == {
        path.name: path.read_bytes() for path in one.glob("*.png")
    }

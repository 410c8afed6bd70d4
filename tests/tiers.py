"""Which tests run when: ``make check``, ``make test`` or ``make test-all``.

A test is in ``make check`` unless a line here says otherwise. A line is the beginning of a test's
name as pytest prints it; the longest line that fits decides.
"""

from __future__ import annotations

from typing import Final, Literal

__all__ = ["PARTS", "TIERS", "Tier", "tier_of"]

Tier = Literal["check", "test", "all"]

TIERS: Final[dict[str, Tier]] = {
    # Whole commands in their own processes, trainings, exports: not in the two minutes of check.
    "tests/benchmarks/": "test",
    "tests/browser/": "test",
    "tests/cli/": "test",
    "tests/cli/test_options.py": "check",
    "tests/cli/test_progress.py": "check",
    "tests/clients/": "test",
    "tests/docs/test_demo_page.py": "test",
    "tests/export/": "test",
    "tests/export/adopt/test_interop.py": "all",
    "tests/faults/": "test",
    "tests/faults/test_short.py::test_the_page_states_every_promise": "check",
    "tests/runtime/backends/test_backends.py::test_opening_and_running_prints_nothing": "test",
    "tests/runtime/bench/test_own_process.py": "test",
    "tests/runtime/bench/test_page.py": "test",
    "tests/runtime/pixels/test_upsampling.py::test_confidence_is_the_softmax_of_the_mean": "test",
    "tests/runtime/pixels/test_upsampling.py::test_every_label_is_right": "test",
    "tests/runtime/pixels/test_upsampling.py::test_many_classes_that_all_read_each_other": "all",
    "tests/runtime/pixels/test_upsampling.py::test_sets_that_round_once_agree": "test",
    "tests/runtime/predict/test_agreement.py": "test",
    "tests/runtime/predict/test_continuing.py": "test",
    "tests/runtime/predict/test_continuing.py::test_a_killed_geotiff_of_4000_pixels": "all",
    "tests/runtime/predict/test_large.py": "test",
    "tests/runtime/predict/test_parts.py": "test",
    "tests/runtime/predict/test_races.py": "test",
    "tests/runtime/predict/test_resume.py": "test",
    "tests/runtime/predict/test_signals.py": "test",
    "tests/runtime/predict/test_workers.py": "test",
    "tests/serving/": "test",
    "tests/test_peers.py": "test",
    "tests/test_tiers.py::test_a_": "test",
    "tests/test_tiers.py::test_no_test_is_a_failure": "test",
    "tests/test_workflows.py::test_actionlint_has_no_finding": "test",
    "tests/train/": "test",
    "tests/train/data/": "check",
    "tests/train/data/importers/": "test",
    # More of the same, in other networks, heads and precisions; and what takes very long.
    "tests/benchmarks/test_gpu_runner.py::test_a_dry_run_of_all_stages": "all",
    "tests/benchmarks/test_host.py::test_a_large_image_beside_others": "all",
    "tests/browser/test_page.py::test_webgpu_is_used_where_it_gives_the_same_labels[plain]": "all",
    "tests/runtime/bench/test_page.py::test_a_figure_saved_twice_is_the_same_file": "all",
    "tests/runtime/bench/test_page.py::test_a_figure_saved_twice_is_the_same_file[0.3]": "test",
    "tests/runtime/bench/test_page.py::test_a_figure_saved_twice_is_the_same_file[93.0]": "test",
    "tests/runtime/bench/test_page.py::test_a_figure_saved_twice_is_the_same_file[40000.0]": "test",
    "tests/export/test_confident_heads.py::test_confidence_of_many_more": "all",
    "tests/export/test_engine_family.py": "all",
    "tests/export/test_engine_family.py::test_builds[fcn8s-resnet18-labels-fp16]": "test",
    "tests/export/test_family.py::test_exports_verified_and_lean": "all",
    "tests/export/test_family.py::test_exports_verified_and_lean[fcn8s-resnet18-scene]": "test",
    "tests/export/test_family.py::test_exports_verified_and_lean[fpn-resnet18-labels]": "test",
    "tests/export/test_family.py::test_other_precisions_are_proved_and_verified": "all",
    "tests/export/test_precision.py::"
    "test_int8_is_explicit_per_channel_and_calibrated_on_named_pictures[scene]": "all",
    "tests/export/test_precision.py::"
    "test_fp16_computes_in_fp16_and_keeps_its_inputs_and_outputs[scene]": "all",
    "tests/runtime/predict/test_ray.py": "all",
    "tests/runtime/predict/test_ray.py::test_a_killed_worker_and_a_lost_node": "test",
    "tests/runtime/predict/test_spark.py": "all",
    "tests/runtime/predict/test_workers.py::test_a_fault_of_every_input_ends_the_run": "all",
    "tests/test_peers.py::test_every_way_gives_the_same_labels": "all",
    "tests/train/test_benchmark.py::test_it_runs_and_says_what_it_measured": "all",
    "tests/train/test_foreign.py::test_two_processes_train_it": "all",
    "tests/train/test_kill.py": "all",
    "tests/train/test_loop.py::test_a_compiled_step_trains_alike": "all",
    "tests/train/test_models.py::test_one_traced_program_takes_every_multiple_of_32": "all",
    "tests/train/test_models.py::test_one_traced_program_takes_every_multiple_of_32"
    "[fcn32s-resnet18]": "test",
    "tests/train/test_parallel.py::test_torchrun_starts_the_command": "all",
}

PARTS: Final = {
    "kills": ["tests/train/test_kill.py", "tests/runtime/predict/test_continuing.py"],
    "training": ["tests/train"],
    "export": ["tests/export"],
    "benchmarks": ["tests/benchmarks"],
    "workers": [
        "tests/runtime/predict/test_ray.py",
        "tests/runtime/predict/test_spark.py",
        "tests/runtime/predict/test_workers.py",
    ],
    "pages": ["tests/browser", "tests/runtime/bench"],
    "kernels": ["tests/runtime/pixels"],
    "peers": ["tests/test_peers.py"],
}
"""What ``make test-all`` runs after ``make test``, in this order; a test runs in its first part."""


def tier_of(name: str) -> Tier:
    """Return the tier of a test.

    Args:
        name: The test's name relative to the root, ``tests/x/test_y.py::test_z[case]``.

    Returns:
        The first tier that runs it.
    """
    fitting = [beginning for beginning in TIERS if name.startswith(beginning)]
    return TIERS[max(fitting, key=len)] if fitting else "check"

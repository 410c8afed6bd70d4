// Runs the model beside the page, so that the page answers while a picture is labeled.
"use strict";

let facts; // what model.json holds
let session;

// Fetches a file and lets the browser compare it with its hash.
async function fetched(file, onBytes) {
  const response = await fetch(file.url, { integrity: file.integrity }).catch(() => {
    throw new Error(`${file.url} cannot be loaded, or is not the file that was exported`);
  });
  if (!response.ok) throw new Error(`${file.url} cannot be loaded: ${response.status}`);
  const parts = [];
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) return new Blob(parts);
    parts.push(value);
    onBytes(value.length);
  }
}

// Makes an address from which the browser runs what was compared with its hash.
function script(blob) {
  return URL.createObjectURL(new Blob([blob], { type: "text/javascript" }));
}

async function loadRuntime(files, onBytes) {
  const [code, glue, binary] = await Promise.all(
    [files.script, files.glue, files.binary].map((file) => fetched(file, onBytes)),
  );
  importScripts(script(code));
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = 1; // more need headers that few static hosts send
  ort.env.wasm.wasmPaths = { mjs: script(glue) };
  ort.env.wasm.wasmBinary = await binary.arrayBuffer();
}

function open(model, provider) {
  const options = { executionProviders: [provider], logSeverityLevel: 3 };
  return ort.InferenceSession.create(model.slice(), options);
}

async function run(opened, rgb, height, width) {
  const image = new ort.Tensor("uint8", rgb, [1, height, width, 3]);
  const results = await opened.run({ [facts.input]: image }, [facts.output]);
  return results[facts.output].data;
}

// Colors in waves and noise: every class that the network knows has a chance.
function testPicture(height, width) {
  const rgb = new Uint8Array(height * width * 3);
  let state = 1;
  for (let at = 0; at < rgb.length; at++) {
    state = (state * 48271) % 2147483647;
    const [x, y] = [((at / 3) | 0) % width, (at / 3 / width) | 0];
    rgb[at] = 128 + 90 * Math.sin(x / 9 + at % 3) * Math.cos(y / 7) + (state % 32) - 16;
  }
  return rgb;
}

// Opens the model on the GPU if it gives the labels of the processor there.
async function openOnGpu(model) {
  const [height, width] = facts.test;
  const rgb = testPicture(height, width);
  const processor = await open(model, "wasm");
  const expected = await run(processor, rgb, height, width);
  try {
    const gpu = await open(model, "webgpu");
    const labels = await run(gpu, rgb, height, width);
    const same = labels.filter((label, at) => label === expected[at]).length / expected.length;
    if (same >= 0.99) {
      await processor.release();
      return [gpu, "WebGPU"];
    }
    await gpu.release();
    return [processor, `WebAssembly with one thread, because WebGPU gave the same label on only ${(100 * same).toFixed(1)} % of a test picture`];
  } catch (error) {
    return [processor, `WebAssembly with one thread, because WebGPU failed: ${error.message}`];
  }
}

async function start(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`model.json cannot be loaded: ${response.status}`);
  facts = await response.json();
  // Both know an adapter only where there is one; workers of some browsers have no WebGPU.
  const hasGpu = Boolean(await navigator.gpu?.requestAdapter().catch(() => null));
  const files = hasGpu ? facts.runtime.webgpu : facts.runtime.wasm;
  const all = [facts.model, files.script, files.glue, files.binary];
  const total = all.reduce((sum, file) => sum + file.bytes, 0);
  let bytes = 0;
  const onBytes = (more) => postMessage({ kind: "progress", share: (bytes += more) / total });
  const [blob] = await Promise.all([fetched(facts.model, onBytes), loadRuntime(files, onBytes)]);
  const model = new Uint8Array(await blob.arrayBuffer());
  let runtime = "WebAssembly with one thread";
  if (hasGpu) [session, runtime] = await openOnGpu(model);
  else session = await open(model, "wasm");
  postMessage({ kind: "ready", facts, runtime });
}

// Where numpy's padding "reflect" takes pixel `at` of a side from.
function reflected(at, size) {
  if (size === 1) return 0;
  const period = 2 * (size - 1);
  const rest = at % period;
  return rest < size ? rest : period - rest;
}

// The shape that the model takes for a picture: at least its smallest, in its steps.
function legal(size, axis) {
  const up = Math.ceil(size / facts.multiple) * facts.multiple;
  return Math.min(Math.max(up, facts.low[axis]), facts.high[axis]);
}

async function label({ rgba, height, width }) {
  const [tall, wide] = [legal(height, 0), legal(width, 1)];
  const rgb = new Uint8Array(tall * wide * 3);
  for (let y = 0, to = 0; y < tall; y++) {
    const row = reflected(y, height) * width;
    for (let x = 0; x < wide; x++) {
      const from = 4 * (row + reflected(x, width));
      rgb[to++] = rgba[from];
      rgb[to++] = rgba[from + 1];
      rgb[to++] = rgba[from + 2];
    }
  }
  const begin = performance.now();
  const grown = await run(session, rgb, tall, wide);
  const milliseconds = performance.now() - begin;
  const labels = new Uint8Array(height * width);
  for (let y = 0; y < height; y++) {
    labels.set(grown.subarray(y * wide, y * wide + width), y * width);
  }
  postMessage({ kind: "labels", labels, height, width, milliseconds }, [labels.buffer]);
}

let starting;
onmessage = async ({ data }) => {
  try {
    if (data.kind === "start") starting = start(data.address);
    await starting;
    if (data.kind === "label") await label(data);
  } catch (error) {
    postMessage({ kind: "failed", text: error.message ?? String(error) });
  }
};

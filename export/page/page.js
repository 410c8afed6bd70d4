// Reads pictures, hands their pixels to worker.js and lays the labels over them.
"use strict";

const element = (id) => document.getElementById(id);
const say = (text) => (element("status").textContent = text);
const complain = (text) => (element("error").textContent = text);

let worker;
let facts; // what model.json holds, once the model is open
let waiting; // resolves or rejects the picture that the model labels now
let stream; // of the camera
let hidden = new Set(); // classes whose color is left out
let shown; // labels on the page

function startWorker() {
  if (location.protocol === "file:") {
    return fail("Browsers load no models from files. Serve this folder: python -m http.server");
  }
  worker = new Worker("worker.js");
  worker.onmessage = ({ data }) => ({ progress, ready, labels, failed })[data.kind](data);
  worker.onerror = () => fail("worker.js cannot be loaded. Export the page again.");
  worker.postMessage({ kind: "start", address: new URL("model.json", location.href).href });
}

function fail(text) {
  complain(text);
  say("");
  element("progress").hidden = true;
  element("drop").hidden = true;
}

function progress({ share }) {
  element("progress").value = share;
}

function ready({ facts: found, runtime }) {
  facts = found;
  document.title = `Label a picture: ${facts.name}`;
  const about = `Model: ${facts.name}, ${facts.classes.length} classes. It runs on ${runtime}.`;
  element("runtime").textContent = [about, ...facts.notes].join(" ");
  element("progress").hidden = true;
  // Black is the color of the background in most palettes; it would only darken the picture.
  hidden = new Set(facts.colors.flatMap((color, label) => (color.some(Boolean) ? [] : [label])));
  for (const id of ["choose", "camera"]) element(id).disabled = false;
  say("Ready.");
  opened();
}

function labels(answer) {
  waiting.resolve(answer);
  waiting = undefined;
}

function failed({ text }) {
  if (!waiting) return fail(`The model cannot be opened: ${text}`);
  waiting.reject(new Error(`The model failed: ${text}. Try a smaller picture.`));
  waiting = undefined;
  // What is left of a runtime after an error may be of no use.
  worker.terminate();
  for (const name of ["choose", "camera"]) element(name).disabled = true;
  startWorker();
}

function run(image) {
  return new Promise((resolve, reject) => {
    waiting = { resolve, reject };
    const { data: rgba, height, width } = image;
    worker.postMessage({ kind: "label", rgba, height, width }, [rgba.buffer]);
  });
}

// Height and width at which a picture is labeled: whole, or scaled down to the most that is taken.
function target(height, width, most) {
  const room = Math.min(facts.high[0] / height, facts.high[1] / width);
  const scale = Math.min(1, room, Math.sqrt(most / (height * width)));
  if (scale === 1) return [height, width];
  // A graph for any size runs once, not four times, where the sides are multiples of 32.
  const side = (size) => Math.max(1, Math.floor((size * scale) / 32) * 32 || Math.floor(size * scale));
  return [side(height), side(width)];
}

// Draws a picture or a frame and returns its pixels; transparency becomes white.
function draw(source, height, width) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, width, height);
  context.drawImage(source, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

async function open(file) {
  try {
    return await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw new Error(`${file.name}: this browser cannot read it as a picture. Save it as PNG or JPEG.`);
  }
}

async function labelFile(file) {
  stopCamera();
  complain("");
  say(`Reading ${file.name} …`);
  try {
    const bitmap = await open(file);
    const [height, width] = target(bitmap.height, bitmap.width, facts.most);
    const scaled = height !== bitmap.height || width !== bitmap.width;
    const size = `${bitmap.width} x ${bitmap.height} pixels`;
    const note = scaled ? `${size}, scaled down to ${width} x ${height}` : size;
    const image = draw(bitmap, height, width);
    bitmap.close();
    say(`Labeling ${file.name} …`);
    const picture = new ImageData(image.data.slice(), width, height);
    const answer = await run(image);
    show(picture, answer, `${file.name}: ${note}`);
    say(`${file.name} labeled in ${duration(answer.milliseconds)}.`);
  } catch (error) {
    showResult(false);
    say("");
    complain(error.message);
  }
}

// One picture after the other, the first one as soon as the model is open.
let opened;
let queue = new Promise((resolve) => (opened = resolve));
function choose(file) {
  if (file) queue = queue.then(() => labelFile(file));
}

function duration(milliseconds) {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

function show(picture, answer, caption) {
  const { height, width } = answer;
  for (const id of ["picture", "labels"]) Object.assign(element(id), { height, width });
  element("picture").getContext("2d").putImageData(picture, 0, 0);
  shown = answer;
  paint();
  list();
  element("caption").textContent = caption;
  showResult(true);
}

function showResult(there) {
  element("result").hidden = !there;
  element("drop").hidden = there;
}

function paint() {
  const { labels: values, height, width } = shown;
  const image = new ImageData(width, height);
  const colors = facts.colors.map(([red, green, blue], label) =>
    hidden.has(label) ? 0 : (255 << 24) | (blue << 16) | (green << 8) | red,
  );
  const pixels = new Uint32Array(image.data.buffer);
  values.forEach((label, at) => (pixels[at] = colors[label]));
  element("labels").getContext("2d").putImageData(image, 0, 0);
}

function list() {
  const counts = new Map();
  for (const label of shown.labels) counts.set(label, (counts.get(label) ?? 0) + 1);
  const sorted = [...counts].sort((a, b) => b[1] - a[1]);
  const rows = sorted.map(([label, count]) => row(label, count / shown.labels.length));
  const focused = document.activeElement?.dataset?.label;
  element("classes").replaceChildren(...rows);
  element("classes").querySelector(`[data-label="${focused}"]`)?.focus();
  const words = sorted.map(([label]) => facts.classes[label]).join(", ");
  element("labels").setAttribute("aria-label", `Labels laid over the picture: ${words}`);
}

function row(label, share) {
  const line = document.createElement("tr");
  const name = line.insertCell().appendChild(document.createElement("label"));
  const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: !hidden.has(label) });
  box.dataset.label = label;
  box.onchange = () => {
    hidden[box.checked ? "delete" : "add"](label);
    paint();
  };
  const swatch = Object.assign(document.createElement("span"), { className: "swatch" });
  swatch.style.background = `rgb(${facts.colors[label]})`;
  name.append(box, swatch, facts.classes[label]);
  line.insertCell().textContent = `${(100 * share).toFixed(1)} %`;
  return line;
}

async function startCamera() {
  complain("");
  if (!navigator.mediaDevices) {
    return complain("Browsers open the camera on https and on localhost only.");
  }
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    return complain(`The camera cannot be opened: ${error.message}. Allow it in the browser, or choose a picture.`);
  }
  element("camera").setAttribute("aria-pressed", "true");
  element("camera").textContent = "Stop the camera";
  queue = queue.then(film);
}

async function film() {
  const video = Object.assign(document.createElement("video"), { srcObject: stream, muted: true, playsInline: true });
  const mine = stream;
  try {
    await video.play();
    while (stream === mine) {
      const begin = performance.now();
      const [height, width] = target(video.videoHeight, video.videoWidth, facts.most / 4);
      const image = draw(video, height, width);
      const picture = new ImageData(image.data.slice(), width, height);
      const answer = await run(image);
      if (stream !== mine) return;
      show(picture, answer, `Camera: ${video.videoWidth} x ${video.videoHeight} pixels, labeled at ${width} x ${height}`);
      const rate = 1000 / (performance.now() - begin);
      say(`Camera: ${duration(answer.milliseconds)} per frame, ${rate.toFixed(1)} frames per second.`);
    }
  } catch (error) {
    stopCamera();
    complain(error.message);
  }
}

function stopCamera() {
  if (!stream) return;
  for (const track of stream.getTracks()) track.stop();
  stream = undefined;
  element("camera").setAttribute("aria-pressed", "false");
  element("camera").textContent = "Use the camera";
  say("The camera is off.");
}

element("choose").onclick = () => element("file").click();
element("file").onchange = ({ target: input }) => {
  choose(input.files[0]);
  input.value = ""; // the same file may be chosen again
};
element("camera").onclick = () => (stream ? stopCamera() : startCamera());
element("strength").oninput = ({ target: slider }) => {
  element("labels").style.opacity = slider.value / 100;
};
for (const event of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(event, (dragged) => {
    dragged.preventDefault();
    document.body.classList.toggle("over", event === "dragenter" || event === "dragover");
    if (event === "drop") choose(dragged.dataTransfer.files[0]);
  });
}
startWorker();

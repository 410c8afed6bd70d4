// Uses an exported page as a visitor would, and prints what it saw as JSON.
// node drive.js SETTINGS, where SETTINGS is JSON: url, chromium, flags, pictures, broken, large, shots, and
// address and answers: what lies at a public address, as a folder.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { chromium } = require("playwright-core");

const settings = JSON.parse(process.argv[2]);
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const PATIENCE = { timeout: 240_000 };

async function open(browser, seen, options = {}) {
  const page = await browser.newPage({ viewport: { width: 1200, height: 900 }, ...options });
  page.on("console", (line) => line.type() === "error" && seen.errors.push(line.text()));
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  page.on("request", (request) => seen.requests.push([request.method(), request.url()]));
  if (settings.address) {
    await page.route(`${settings.address}**`, (route) => {
      const file = path.join(settings.answers, path.basename(route.request().url()));
      return route.fulfill({ path: file, headers: { "access-control-allow-origin": "*" } });
    });
  }
  await page.goto(settings.url);
  await page.waitForFunction(() => !document.getElementById("choose").disabled, null, PATIENCE);
  return page;
}

// Gives a picture to the page and waits for its answer.
async function give(page, file) {
  await page.evaluate(() => (document.getElementById("status").textContent = "…"));
  await page.setInputFiles("#file", file);
  await page.waitForFunction(
    () =>
      / labeled in /.test(document.getElementById("status").textContent) ||
      document.getElementById("error").textContent !== "",
    null,
    PATIENCE,
  );
}

const text = (page, id) => page.textContent(`#${id}`);

async function result(page) {
  const [width, height, pixels] = await page.evaluate(() => {
    const canvas = document.getElementById("labels");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let bytes = "";
    for (let at = 0; at < data.length; at += 30000) {
      bytes += String.fromCharCode(...data.subarray(at, at + 30000));
    }
    return [canvas.width, canvas.height, btoa(bytes)];
  });
  const rows = await page.$$eval("#classes tr", (lines) =>
    lines.map((line) => [...line.cells].map((cell) => cell.textContent.trim())),
  );
  return { width, height, pixels, rows, status: await text(page, "status"), caption: await text(page, "caption") };
}

async function audit(page) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => axe.run());
  return found.violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes[0].html}`);
}

const shoot = (page, name) =>
  page.screenshot({ path: path.join(settings.shots, `${name}.png`), fullPage: true });

async function main() {
  const browser = await chromium.launch({
    executablePath: settings.chromium,
    args: ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", ...settings.flags],
  });
  const seen = { errors: [], requests: [], pictures: [], findings: [] };
  try {
    const page = await open(browser, seen);
    seen.runtime = await text(page, "runtime");
    for (const file of settings.pictures) {
      await give(page, file);
      seen.pictures.push(await result(page));
    }
    if (settings.broken === undefined) return process.stdout.write(JSON.stringify(seen));
    seen.findings.push(...(await audit(page)));
    await shoot(page, "desktop");

    // The keyboard alone: the strength of the colors, then the first class that is shown.
    await page.focus("#strength");
    await page.keyboard.press("Home");
    seen.opacity = await page.evaluate(() => getComputedStyle(document.getElementById("labels")).opacity);
    const empty = () => {
      const canvas = document.getElementById("labels");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return data.filter((value, at) => at % 4 === 3 && value === 0).length / (data.length / 4);
    };
    const before = await page.evaluate(empty);
    let name = "background";
    while (name === "background") {
      await page.keyboard.press("Tab");
      name = await page.evaluate(() => document.activeElement.parentElement.textContent);
    }
    await page.keyboard.press("Space");
    seen.hidden = [name, (await page.evaluate(empty)) - before];
    await page.keyboard.press("Space");

    await give(page, settings.broken);
    seen.broken = await text(page, "error");
    seen.findings.push(...(await audit(page)));
    await give(page, settings.large);
    seen.large = await result(page);
    delete seen.large.pixels;

    await page.click("#camera");
    await page.waitForFunction(() => /per frame/.test(document.getElementById("status").textContent), null, PATIENCE);
    seen.camera = [await text(page, "caption"), await text(page, "camera")];
    await page.click("#camera");
    seen.off = [await text(page, "status"), await text(page, "camera")];
    await page.close();

    const small = await open(browser, seen, { viewport: { width: 400, height: 800 }, colorScheme: "dark" });
    await give(small, settings.pictures[0]);
    seen.overflow = await small.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    seen.findings.push(...(await audit(small)));
    await shoot(small, "small-dark");
    await small.close();
  } finally {
    await browser.close();
  }
  process.stdout.write(JSON.stringify(seen));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});

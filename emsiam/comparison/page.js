"use strict";
// The page of a comparison: one step at a time, in all clouds and curves. DATA is what page.py says of the runs.
const at = (id) => document.getElementById(id);
const TURNED = 0.01; // radians a pixel
const NEAR = 9; // pixels, from the pointer to a dot
const GAP = 8; // pixels, between clouds
const SMALL = 165; // pixels, of a cloud that is too small to be looked at
const BAR = 48; // pixels, of the controls
const FRAME = 90; // milliseconds that a step stays while it plays
const state = {stop: DATA.steps.length - 1, yaw: 0.5, pitch: 0.35, playing: 0, by: Object.keys(DATA.shades)[0], image: null};
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function numbers(text) { // base64 of int16, as shares of 1
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return Float32Array.from(new Int16Array(bytes.buffer), (x) => x / 32000);
}

for (const run of DATA.runs) {
  run.points = run.clouds.map(numbers);
  run.hidden = false;
}

// Clouds: each a card with a canvas.
for (const [i, run] of DATA.runs.entries()) {
  const card = document.createElement("div");
  card.className = "run";
  card.innerHTML =
    `<canvas></canvas><div class="below"><h2><button aria-pressed="true" title="${run.reason}">` +
    `<i style="background: ${run.colour}"></i>${run.name}</button></h2>` +
    `<span class="group">${run.group}</span><span class="verdict">${run.verdict}</span></div>`;
  card.querySelector("button").onclick = (event) => {
    run.hidden = !run.hidden;
    card.classList.toggle("off", run.hidden);
    event.currentTarget.setAttribute("aria-pressed", String(!run.hidden));
    curves();
  };
  run.canvas = card.querySelector("canvas");
  run.canvas.onpointermove = (event) => moved(event, i);
  run.canvas.onpointerleave = () => point(null);
  run.canvas.onpointerdown = (event) => run.canvas.setPointerCapture(event.pointerId);
  at("clouds").append(card);
}

function projected(run) { // [x, y, depth] of each dot, in pixels
  const z = run.points[run.of[state.stop]];
  const size = run.canvas.width / 2;
  const [cy, sy, cp, sp] = [Math.cos(state.yaw), Math.sin(state.yaw), Math.cos(state.pitch), Math.sin(state.pitch)];
  const dots = [];
  for (let i = 0; i < z.length; i += 3) {
    const x = cy * z[i] + sy * z[i + 1];
    const y = -sy * z[i] + cy * z[i + 1];
    dots.push([size * (1 + 0.94 * x), size * (1 - 0.94 * (cp * z[i + 2] - sp * y)), cp * y + sp * z[i + 2]]);
  }
  return dots;
}

function draw(run) {
  const canvas = run.canvas;
  const width = Math.round(canvas.clientWidth * devicePixelRatio);
  if (canvas.width !== width) canvas.width = canvas.height = width;
  const pen = canvas.getContext("2d");
  const shades = DATA.shades[state.by][DATA.runs.indexOf(run)];
  pen.clearRect(0, 0, width, width);
  pen.strokeStyle = style("--line");
  pen.lineWidth = devicePixelRatio;
  pen.beginPath();
  pen.arc(width / 2, width / 2, 0.47 * width, 0, 2 * Math.PI);
  pen.stroke();
  for (const turn of [0, 1]) ring(pen, width, turn);
  const dots = projected(run);
  const order = dots.map((_, i) => i).sort((a, b) => dots[b][2] - dots[a][2]);
  for (const i of order) {
    const [x, y, depth] = dots[i];
    const chosen = state.image !== null && run.images === state.image.images && i === state.image.i;
    pen.globalAlpha = chosen ? 1 : 0.95 - 0.35 * (depth + 1) / 2;
    pen.fillStyle = shades[i];
    pen.beginPath();
    pen.arc(x, y, (chosen ? 6 : 3.2 - 0.8 * depth) * devicePixelRatio * Math.min(1.4, canvas.clientWidth / 240), 0, 2 * Math.PI);
    pen.fill();
    if (chosen) {
      pen.strokeStyle = style("--ink");
      pen.stroke();
    }
  }
  pen.globalAlpha = 1;
}

function ring(pen, width, turn) { // the equator, and a meridian
  const [cy, sy, cp, sp] = [Math.cos(state.yaw), Math.sin(state.yaw), Math.cos(state.pitch), Math.sin(state.pitch)];
  pen.beginPath();
  for (let i = 0; i <= 72; i++) {
    const [c, s] = [Math.cos(i * Math.PI / 36), Math.sin(i * Math.PI / 36)];
    const [a, b, z] = turn ? [c, 0, s] : [c, s, 0];
    const [x, y] = [cy * a + sy * b, -sy * a + cy * b];
    pen.lineTo(width / 2 * (1 + 0.94 * x), width / 2 * (1 - 0.94 * (cp * z - sp * y)));
  }
  pen.globalAlpha = 0.6;
  pen.stroke();
  pen.globalAlpha = 1;
}

function moved(event, i) {
  if (event.buttons) {
    state.yaw -= TURNED * event.movementX;
    state.pitch = Math.max(-1.5, Math.min(1.5, state.pitch + TURNED * event.movementY));
    point(null);
    return;
  }
  const run = DATA.runs[i];
  const box = run.canvas.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top].map((v) => v * devicePixelRatio);
  let best = null;
  let least = NEAR * devicePixelRatio;
  projected(run).forEach(([a, b], j) => {
    const far = Math.hypot(a - x, b - y);
    if (far < least) [least, best] = [far, j];
  });
  point(best === null ? null : {images: run.images, i: best}, event, run);
}

function point(image, event, run) { // at an image, or none
  state.image = image;
  const tip = at("tip");
  tip.style.display = image ? "block" : "none";
  if (image) {
    const picture = tip.querySelector("canvas");
    const sheet = SHEETS[run.images];
    picture.style.display = sheet && sheet.complete ? "block" : "none";
    if (sheet && sheet.complete) {
      const {wide, high, row} = DATA.sheets[run.images];
      picture.height = 80;
      picture.width = Math.round(80 * wide / high);
      const pen = picture.getContext("2d");
      pen.imageSmoothingEnabled = false;
      const [left, top] = [wide * (image.i % row), high * Math.floor(image.i / row)];
      pen.drawImage(sheet, left, top, wide, high, 0, 0, picture.width, picture.height);
    }
    tip.querySelector("span").textContent = run.texts[image.i];
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - 110)}px`;
    tip.style.top = `${Math.min(event.clientY + 14, innerHeight - 120)}px`;
  }
  clouds();
}

const SHEETS = {};
for (const [name, sheet] of Object.entries(DATA.sheets)) {
  SHEETS[name] = new Image();
  SHEETS[name].src = sheet.png;
}

let waiting = false;
function clouds() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    DATA.runs.forEach(draw);
  });
}

// Curves: a panel each, with a mark where the step is.
for (const panel of DATA.panels) {
  const place = document.createElement("div");
  place.className = "panel";
  place.innerHTML = `<h2>${panel.title}</h2><div></div><small>${panel.scale}</small>`;
  panel.place = place.querySelector("div");
  at("curves").append(place);
}

function traces(panel) {
  const lines = panel.lines.map((line) => {
    const run = DATA.runs[line.run];
    return {x: line.x, y: line.y, mode: "lines", name: run.name, line: {color: run.colour, width: 1.6}, visible: !run.hidden};
  });
  const marks = panel.moving
    ? []
    : panel.lines.map((line) => {
        const run = DATA.runs[line.run];
        const [x, y] = along(line, DATA.steps[state.stop]);
        const marker = {color: run.colour, size: 9, line: {color: style("--ink"), width: 1}};
        const mark = {mode: "markers", marker, cliponaxis: false, name: run.name, hoverinfo: "skip"};
        return {x: [x], y: [y], ...mark, visible: !run.hidden};
      });
  return [...lines, ...marks];
}

function along(line, step) { // where a line is at a step: [x, y], at its end where it does not come so far
  const j = line.x.findLastIndex((x) => x <= step);
  if (j < 0) return [line.x[0], line.y[0]];
  if (j === line.x.length - 1) return [line.x[j], line.y[j]];
  const share = (step - line.x[j]) / (line.x[j + 1] - line.x[j]);
  return [step, line.y[j] + share * (line.y[j + 1] - line.y[j])];
}

function limits(panel, axis, zero) { // of what is shown of a panel, the same at every step
  const shown = panel.lines.filter((line) => !DATA.runs[line.run].hidden);
  const values = shown.flatMap((line) => line[axis]).filter(Number.isFinite);
  if (!values.length) return [0, 1];
  const [low, high] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [zero ? 0 : Infinity, -Infinity]);
  const room = 0.04 * (high - low || Math.abs(high) || 1);
  return [zero ? low : low - room, high + room];
}

function curves() {
  const hidden = DATA.runs.map((run) => Number(run.hidden)).join("");
  const axis = {gridcolor: style("--line"), zerolinecolor: style("--line"), automargin: true};
  for (const panel of DATA.panels) {
    if (panel.moving) {
      panel.lines = DATA.runs.map((run, i) => ({run: i, x: run.directions, y: run.spectra[run.of[state.stop]]}));
    }
    const layout = {
      margin: {l: 8, r: 8, t: 6, b: 8}, showlegend: false, paper_bgcolor: "transparent", plot_bgcolor: "transparent",
      font: {color: style("--ink"), size: 11}, hovermode: "x",
      xaxis: {...axis, range: limits(panel, "x"), title: {text: panel.x, standoff: 4}},
      yaxis: {...axis, range: limits(panel, "y", panel.zero), ...panel.y, exponentformat: "power"},
      uirevision: hidden, // what a reader has zoomed into stays
    };
    Plotly.react(panel.place, traces(panel), layout, {displayModeBar: false, responsive: true, doubleClick: "reset"});
  }
}

// The step, and who moves it.
function go(stop) {
  state.stop = Math.max(0, Math.min(DATA.steps.length - 1, stop));
  at("slider").value = state.stop;
  at("step").textContent = `step ${DATA.steps[state.stop].toLocaleString("en")}`;
  clouds();
  curves();
}

function play(on) {
  clearInterval(state.playing);
  state.playing = 0;
  if (on) {
    if (state.stop === DATA.steps.length - 1) go(0);
    state.playing = setInterval(() => {
      go(state.stop + 1);
      if (state.stop === DATA.steps.length - 1) play(false);
    }, FRAME);
  }
  at("play").textContent = on ? "❚❚" : "▶";
}

at("play").onclick = () => play(!state.playing);
at("slider").oninput = (event) => {
  play(false);
  go(Number(event.target.value));
};
document.addEventListener("keydown", (event) => {
  if (event.target.tagName === "SELECT") return;
  const moves = {ArrowLeft: state.stop - 1, ArrowRight: state.stop + 1, Home: 0, End: DATA.steps.length - 1};
  if (event.key === " " && !["BUTTON", "SUMMARY"].includes(event.target.tagName)) play(!state.playing);
  else if (event.key in moves) {
    play(false);
    go(moves[event.key]);
  } else return;
  event.preventDefault();
});

for (const way of Object.keys(DATA.shades)) at("by").add(new Option(way, way));
at("by").onchange = (event) => {
  state.by = event.target.value;
  legend();
  clouds();
};

function legend() {
  at("labels").innerHTML =
    state.by === "label" ? DATA.labels.map(([name, colour]) => `<span><i style="background: ${colour}"></i>${name}</span>`).join("") : "";
}

const tallest = (name) => Math.max(...[...document.querySelectorAll(name)].map((x) => x.offsetHeight));
const set = (name, value) => document.documentElement.style.setProperty(name, value);

function placed(text) { // clouds as large as can be with all curves in view, below or beside; text: pixels below one
  const many = DATA.runs.length;
  const wide = at("both").clientWidth;
  const high = innerHeight - at("both").getBoundingClientRect().top - scrollY - GAP;
  const across = (columns, width) => (width + GAP) / columns - GAP;
  let best = {size: 0};
  for (let columns = 1; columns <= many; columns++) {
    for (const [place, width, height] of [["", wide, 0.6 * high], ["beside", 0.6 * wide, high]]) {
      const size = Math.min(across(columns, width), height / Math.ceil(many / columns) - text);
      if (size > best.size) best = {size, columns, place};
    }
  }
  if (best.size >= SMALL) return best;
  const rows = Math.ceil(many / Math.max(1, Math.floor((wide + GAP) / (SMALL + GAP)))); // and a reader scrolls
  const columns = Math.ceil(many / rows);
  return {columns, place: "", size: Math.max(SMALL, Math.min(across(columns, wide), innerHeight - BAR - text))};
}

function fitted() {
  at("both").className = "";
  for (let [text, i] = [70, 0]; i < 2; i++) { // how tall text is, is known when it is as wide as a cloud
    const {columns, size, place} = placed(text);
    set("--columns", columns);
    set("--cloud", `${Math.floor(size)}px`);
    text = tallest(".below") + 2 * GAP;
    if (i) at("both").className = place;
  }
  const columns = getComputedStyle(at("curves")).gridTemplateColumns.split(" ").length;
  const room = innerHeight - at("curves").getBoundingClientRect().top - scrollY;
  const curve = room / Math.ceil(DATA.panels.length / columns) - 60; // title and scale
  set("--curve", `${Math.floor(Math.max(innerWidth < 700 ? 170 : 140, curve))}px`);
}

addEventListener("resize", () => {
  fitted();
  clouds();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => go(state.stop));
fitted();
legend();
go(state.stop);

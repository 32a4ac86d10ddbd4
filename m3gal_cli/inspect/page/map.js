// The map: what is drawn, and where. One scope with places.js and hands.js; see page.py.
const COLOURS = 12, SHAPES = 4, EARTH_M = 2 * Math.PI * 6371008.8;  // of a kind: colour first, then shape; metres around
const CLOSEST = 8e7;  // pixels a side of the world at which a single place is shown: half a metre a pixel
const LISTED = 50, LABELLED = 400, MOVED_PX = 5;
const data = JSON.parse(document.getElementById("data").textContent);
const el = (id) => document.getElementById(id);
const canvas = el("canvas"), pen = canvas.getContext("2d");
const count = data.places.length;
const places = data.places.map(([id, name, kind, lng, lat, category, facts, views]) =>
  ({ id, name, kind, lng, lat, category, facts, views }));
const title = (p) => p.name || (p.views.length ? p.views[1] : p.id);
const X = new Float64Array(count), Y = new Float64Array(count);
places.forEach((p, i) => { X[i] = mercatorX(p.lng); Y[i] = mercatorY(p.lat); });
const shown = data.kinds.map(() => true);
const byKind = data.kinds.map(() => []);
places.forEach((p, i) => byKind[p.kind].push(i));
const view = { x: 0.5, y: 0.5, scale: 1 };  // middle of the map in the Mercator square 0..1, pixels a side of it
let width = 1, height = 1, ratio = 1, colours = {}, chosen = -1, matches = null, waiting = false, haystacks = null;
let listed = [], active = -1, fitted = true;

// --- projection ---------------------------------------------------------------------------------------------
function mercatorX(lng) { return lng / 360 + 0.5; }
function mercatorY(lat) {
  const phi = Math.max(-85.05, Math.min(85.05, lat)) * Math.PI / 180;
  return 0.5 - Math.log(Math.tan(Math.PI / 4 + phi / 2)) / (2 * Math.PI);
}
function lngOf(x) { return (x - 0.5) * 360; }
function latOf(y) { return Math.atan(Math.sinh((0.5 - y) * 2 * Math.PI)) * 180 / Math.PI; }
const screenX = (x) => (x - view.x) * view.scale + width / 2;
const screenY = (y) => (y - view.y) * view.scale + height / 2;

function extent(values) {  // of the bulk and what lies about it: a line of far stations must not shrink the city to a dot
  const sorted = Float64Array.from(values).sort(), last = sorted.length - 1;
  const low = sorted[Math.floor(last * 0.1)], high = sorted[Math.ceil(last * 0.9)], beyond = (high - low) / 2;
  return [Math.max(sorted[0], low - beyond), Math.min(sorted[last], high + beyond)];
}
function fit() {
  if (!count) return;
  const [west, east] = extent(X), [north, south] = extent(Y);
  view.x = (west + east) / 2;
  view.y = (north + south) / 2;
  view.scale = Math.min((width - 60) / (east - west || 1e-9), (height - 90) / (south - north || 1e-9), CLOSEST);
  limit();
  fitted = true;
  redraw();
}
function limit() {
  view.scale = Math.max(Math.min(width, height) / 2, Math.min(view.scale, 2 ** 31));
  view.x = Math.max(0, Math.min(1, view.x));
  view.y = Math.max(0, Math.min(1, view.y));
  fitted = false;
}
function zoom(factor, px = width / 2, py = height / 2) {
  const x = view.x + (px - width / 2) / view.scale, y = view.y + (py - height / 2) / view.scale;
  view.scale *= factor;
  limit();
  view.x = x - (px - width / 2) / view.scale;
  view.y = y - (py - height / 2) / view.scale;
  redraw();
}
function pan(dx, dy) { view.x -= dx / view.scale; view.y -= dy / view.scale; limit(); redraw(); }

// --- drawing ------------------------------------------------------------------------------------------------
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
}
function readColours() {
  const style = getComputedStyle(document.documentElement), value = (name) => style.getPropertyValue(name).trim();
  colours = { ground: value("--ground"), grid: value("--grid"), gridInk: value("--grid-ink"), ink: value("--ink"), ring: value("--ring") };
  colours.kinds = Array.from({ length: COLOURS }, (_, i) => value(`--k${i}`));
}
const metresAPixel = () => EARTH_M * Math.cos(latOf(view.y) * Math.PI / 180) / view.scale;
const radius = () => Math.max(2.5, Math.min(7, 1.6 + Math.log2(1 + 40 / metresAPixel())));

function draw() {
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.fillStyle = colours.ground;
  pen.fillRect(0, 0, width, height);
  graticule();
  const r = radius(), inView = [];
  for (let kind = 0; kind < byKind.length; kind++) {
    if (!shown[kind]) continue;
    const bright = [], dim = [];
    for (const i of byKind[kind]) {
      const x = screenX(X[i]), y = screenY(Y[i]);
      if (x < -r || y < -r || x > width + r || y > height + r) continue;
      if (matches && !matches.has(i)) { dim.push(x, y); continue; }
      bright.push(x, y);
      inView.push(i);
    }
    pen.fillStyle = colours.kinds[kind % COLOURS];
    pen.globalAlpha = 0.18;
    stamp(dim, r, kind);
    pen.globalAlpha = 1;
    stamp(bright, r, kind);
  }
  if (inView.length <= LABELLED && inView.length) labels(inView, r);
  ring(r);
  if (document.activeElement === canvas && canvas.matches(":focus-visible")) cross();
  scaleBar();
  canvas.dataset.view = `${lngOf(view.x)} ${latOf(view.y)} ${view.scale}`;
  canvas.dataset.drawn = inView.length;
  if (!canvas.dataset.painted) canvas.dataset.painted = Math.round(performance.now());
}
function stamp(spots, r, kind) {
  if (!spots.length) return;
  const shape = Math.floor(kind / COLOURS) % SHAPES;
  pen.beginPath();
  for (let n = 0; n < spots.length; n += 2) {
    const x = spots[n], y = spots[n + 1];
    if (shape === 0) { pen.moveTo(x + r, y); pen.arc(x, y, r, 0, 2 * Math.PI); }
    else if (shape === 1) pen.rect(x - r, y - r, 2 * r, 2 * r);
    else {
      pen.moveTo(x, y - 1.2 * r);
      pen.lineTo(x + 1.2 * r, shape === 2 ? y + r : y);
      if (shape === 3) pen.lineTo(x, y + 1.2 * r);
      pen.lineTo(x - 1.2 * r, shape === 2 ? y + r : y);
      pen.closePath();
    }
  }
  pen.fill();
  if (r > 4) { pen.strokeStyle = colours.ground; pen.lineWidth = 1; pen.stroke(); }
}
function graticule() {
  const west = lngOf(view.x - width / 2 / view.scale), east = lngOf(view.x + width / 2 / view.scale);
  const north = latOf(view.y - height / 2 / view.scale), south = latOf(view.y + height / 2 / view.scale);
  const step = nice(130 / view.scale * 360), digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  pen.strokeStyle = colours.grid;
  pen.fillStyle = colours.gridInk;
  pen.lineWidth = 1;
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "top";
  pen.beginPath();
  for (let n = Math.ceil(west / step); n * step <= east; n++) {
    const x = Math.round(screenX(mercatorX(n * step))) + 0.5;
    pen.moveTo(x, 0);
    pen.lineTo(x, height);
    pen.fillText(`${Math.abs(n * step).toFixed(digits)}° ${n < 0 ? "W" : "E"}`, x + 4, 4);
  }
  for (let n = Math.ceil(south / step); n * step <= north; n++) {
    const y = Math.round(screenY(mercatorY(n * step))) + 0.5;
    pen.moveTo(0, y);
    pen.lineTo(width, y);
    if (y > 24 && y < height - 60) pen.fillText(`${Math.abs(n * step).toFixed(digits)}° ${n < 0 ? "S" : "N"}`, 4, y + 3);
  }
  pen.stroke();
}
function nice(least) {  // the next of 1, 2, 5 times a power of ten
  const power = 10 ** Math.floor(Math.log10(least));
  return power * [1, 2, 5, 10].find((digit) => digit * power >= least * 0.999);
}
function labels(inView, r) {
  const taken = [];
  pen.font = "12px system-ui, \"PingFang SC\", \"Microsoft YaHei\", \"Noto Sans CJK SC\", sans-serif";
  pen.textBaseline = "middle";
  pen.lineWidth = 3;
  pen.lineJoin = "round";
  pen.strokeStyle = colours.ground;
  pen.fillStyle = colours.ink;
  for (const i of chosen >= 0 ? [chosen, ...inView] : inView) {
    const x = screenX(X[i]) + r + (i === chosen ? 9 : 4), y = screenY(Y[i]), text = Array.from(title(places[i])).slice(0, 28).join("");
    const box = [x - r - 4, y - 8, x + pen.measureText(text).width, y + 8];
    if (taken.some((b) => box[0] < b[2] && box[2] > b[0] && box[1] < b[3] && box[3] > b[1])) continue;
    taken.push(box);
    pen.strokeText(text, x, y);
    pen.fillText(text, x, y);
  }
}
function ring(r) {
  if (chosen < 0) return;
  const x = screenX(X[chosen]), y = screenY(Y[chosen]);
  pen.fillStyle = colours.kinds[places[chosen].kind % COLOURS];
  stamp([x, y], r, places[chosen].kind);
  pen.beginPath();
  pen.arc(x, y, r + 4, 0, 2 * Math.PI);
  pen.strokeStyle = colours.ring;
  pen.lineWidth = 2.5;
  pen.stroke();
}
function cross() {
  pen.strokeStyle = colours.ring;
  pen.lineWidth = 1.5;
  pen.beginPath();
  pen.moveTo(width / 2 - 9, height / 2);
  pen.lineTo(width / 2 + 9, height / 2);
  pen.moveTo(width / 2, height / 2 - 9);
  pen.lineTo(width / 2, height / 2 + 9);
  pen.stroke();
}
function scaleBar() {
  const metres = nice(metresAPixel() * 55);
  el("scale").style.width = `${metres / metresAPixel()}px`;
  el("metres").textContent = metres >= 1000 ? `${metres / 1000} km` : metres >= 1 ? `${metres} m` : `${Math.round(metres * 100)} cm`;
}
function resize() {
  const box = el("map").getBoundingClientRect();
  ratio = window.devicePixelRatio || 1;
  width = Math.max(1, box.width);
  height = Math.max(1, box.height);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  if (fitted) fit();
  draw();  // at once: a canvas that has changed its size is empty
}

// Map view: state, projection and drawing. map.js, the panels of a page and input.js are joined into one scope (see
// rendering.py). The panels call setPlaces, and define selectPlace(i, others): a click on place i, with others there.
const COLOURS = 12, SHAPES = 4, EARTH_M = 2 * Math.PI * 6371008.8; // 12 colours times 4 shapes tell kinds apart; metres
const MAX_FIT_SCALE = 8e7;  // pixels of the whole world, 2 pixels per metre at the equator: scale for a single place
const MAX_RESULTS = 50, MAX_LABELS = 400, DRAG_PX = 5;
const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const canvas = element("canvas"), context = canvas.getContext("2d");
const kindVisible = data.kinds.map(() => true);
let places = [], placeCount = 0, placeX = [], placeY = [], placesOfKind = [];  // see setPlaces
const view = { x: 0.5, y: 0.5, scale: 1 };  // centre in Web Mercator coordinates 0..1, and pixels of the whole world
let width = 1, height = 1, pixelRatio = 1, colours = {}, selected = -1, matches = null, drawPending = false, searchTexts = null;
let results = [], activeResult = -1, showsWholeCity = true;

// Set the places of the map: objects with title, kind (a position in data.kinds), lng and lat.
function setPlaces(list) {
  places = list;
  placeCount = places.length;
  placeX = Float64Array.from(places, (p) => mercatorX(p.lng));
  placeY = Float64Array.from(places, (p) => mercatorY(p.lat));
  placesOfKind = data.kinds.map(() => []);
  places.forEach((p, i) => placesOfKind[p.kind].push(i));
}

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

function robustRange(values) {
  // The middle 80% of the values, widened by half on both sides: a few far places must not shrink the city to a dot.
  const sorted = Float64Array.from(values).sort(), last = sorted.length - 1;
  const low = sorted[Math.floor(last * 0.1)], high = sorted[Math.ceil(last * 0.9)], beyond = (high - low) / 2;
  return [Math.max(sorted[0], low - beyond), Math.min(sorted[last], high + beyond)];
}
function fitCity() {
  if (!placeCount) return;
  const [west, east] = robustRange(placeX), [north, south] = robustRange(placeY);
  view.x = (west + east) / 2;
  view.y = (north + south) / 2;
  view.scale = Math.min((width - 60) / (east - west || 1e-9), (height - 90) / (south - north || 1e-9), MAX_FIT_SCALE);
  clampView();
  showsWholeCity = true;
  requestDraw();
}
function clampView() {
  view.scale = Math.max(Math.min(width, height) / 2, Math.min(view.scale, 2 ** 31));
  view.x = Math.max(0, Math.min(1, view.x));
  view.y = Math.max(0, Math.min(1, view.y));
  showsWholeCity = false;
}
function zoom(factor, px = width / 2, py = height / 2) {
  const x = view.x + (px - width / 2) / view.scale, y = view.y + (py - height / 2) / view.scale;
  view.scale *= factor;
  clampView();
  view.x = x - (px - width / 2) / view.scale;
  view.y = y - (py - height / 2) / view.scale;
  requestDraw();
}
function pan(dx, dy) { view.x -= dx / view.scale; view.y -= dy / view.scale; clampView(); requestDraw(); }

// --- drawing ------------------------------------------------------------------------------------------------
function requestDraw() {
  if (drawPending) return;
  drawPending = true;
  requestAnimationFrame(() => { drawPending = false; draw(); });
}
function readColours() {
  const style = getComputedStyle(document.documentElement), value = (name) => style.getPropertyValue(name).trim();
  colours = { background: value("--map-background"), grid: value("--grid"), gridText: value("--grid-text") };
  Object.assign(colours, { text: value("--text"), selection: value("--selection") });
  colours.kinds = Array.from({ length: COLOURS }, (_, i) => value(`--k${i}`));
}
const metresPerPixel = () => EARTH_M * Math.cos(latOf(view.y) * Math.PI / 180) / view.scale;
const pointRadius = () => Math.max(2.5, Math.min(7, 1.6 + Math.log2(1 + 40 / metresPerPixel())));

function draw() {
  context.setTransform(pixelRatio, 0, 0, pixelRatio, 0, 0);
  context.fillStyle = colours.background;
  context.fillRect(0, 0, width, height);
  drawGraticule();
  const r = pointRadius(), inView = [];
  for (let kind = 0; kind < placesOfKind.length; kind++) {
    if (!kindVisible[kind]) continue;
    const bright = [], dim = [];
    for (const i of placesOfKind[kind]) {
      const x = screenX(placeX[i]), y = screenY(placeY[i]);
      if (x < -r || y < -r || x > width + r || y > height + r) continue;
      if (matches && !matches.has(i)) { dim.push(x, y); continue; }
      bright.push(x, y);
      inView.push(i);
    }
    context.fillStyle = colours.kinds[kind % COLOURS];
    context.globalAlpha = 0.18;
    drawPoints(dim, r, kind);
    context.globalAlpha = 1;
    drawPoints(bright, r, kind);
  }
  if (inView.length <= MAX_LABELS && inView.length) drawLabels(inView, r);
  drawSelection(r);
  if (document.activeElement === canvas && canvas.matches(":focus-visible")) drawCrosshair();
  updateScaleBar();
  canvas.dataset.view = `${lngOf(view.x)} ${latOf(view.y)} ${view.scale}`;
  canvas.dataset.drawn = inView.length;
  if (!canvas.dataset.painted) canvas.dataset.painted = Math.round(performance.now());
}
function drawPoints(points, r, kind) {
  if (!points.length) return;
  const shape = Math.floor(kind / COLOURS) % SHAPES;
  context.beginPath();
  for (let n = 0; n < points.length; n += 2) {
    const x = points[n], y = points[n + 1];
    if (shape === 0) { context.moveTo(x + r, y); context.arc(x, y, r, 0, 2 * Math.PI); }
    else if (shape === 1) context.rect(x - r, y - r, 2 * r, 2 * r);
    else {
      context.moveTo(x, y - 1.2 * r);
      context.lineTo(x + 1.2 * r, shape === 2 ? y + r : y);
      if (shape === 3) context.lineTo(x, y + 1.2 * r);
      context.lineTo(x - 1.2 * r, shape === 2 ? y + r : y);
      context.closePath();
    }
  }
  context.fill();
  if (r > 4) { context.strokeStyle = colours.background; context.lineWidth = 1; context.stroke(); }
}
function drawGraticule() {
  const west = lngOf(view.x - width / 2 / view.scale), east = lngOf(view.x + width / 2 / view.scale);
  const north = latOf(view.y - height / 2 / view.scale), south = latOf(view.y + height / 2 / view.scale);
  const step = roundStep(130 / view.scale * 360), digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  context.strokeStyle = colours.grid;
  context.fillStyle = colours.gridText;
  context.lineWidth = 1;
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "top";
  context.beginPath();
  for (let n = Math.ceil(west / step); n * step <= east; n++) {
    const x = Math.round(screenX(mercatorX(n * step))) + 0.5;
    context.moveTo(x, 0);
    context.lineTo(x, height);
    context.fillText(`${Math.abs(n * step).toFixed(digits)}° ${n < 0 ? "W" : "E"}`, x + 4, 4);
  }
  for (let n = Math.ceil(south / step); n * step <= north; n++) {
    const y = Math.round(screenY(mercatorY(n * step))) + 0.5;
    context.moveTo(0, y);
    context.lineTo(width, y);
    if (y > 24 && y < height - 60) context.fillText(`${Math.abs(n * step).toFixed(digits)}° ${n < 0 ? "S" : "N"}`, 4, y + 3);
  }
  context.stroke();
}
function roundStep(minimum) {  // the smallest of 1, 2, 5 times a power of ten that is at minimum this
  const power = 10 ** Math.floor(Math.log10(minimum));
  return power * [1, 2, 5, 10].find((digit) => digit * power >= minimum * 0.999);
}
function drawLabels(inView, r) {
  const boxes = [];
  context.font = "12px system-ui, \"PingFang SC\", \"Microsoft YaHei\", \"Noto Sans CJK SC\", sans-serif";
  context.textBaseline = "middle";
  context.lineWidth = 3;
  context.lineJoin = "round";
  context.strokeStyle = colours.background;
  context.fillStyle = colours.text;
  for (const i of selected >= 0 ? [selected, ...inView] : inView) {
    const text = Array.from(places[i].title).slice(0, 28).join(""), textWidth = context.measureText(text).width;
    const gap = r + (i === selected ? 9 : 4), at = screenX(placeX[i]), y = screenY(placeY[i]);
    const x = at + gap + textWidth > width ? at - gap - textWidth : at + gap;  // right of the point, left of it at the edge
    const box = [Math.min(x, at - 4), y - 8, Math.max(x + textWidth, at + 4), y + 8];
    if (boxes.some((b) => box[0] < b[2] && box[2] > b[0] && box[1] < b[3] && box[3] > b[1])) continue;
    boxes.push(box);
    context.strokeText(text, x, y);
    context.fillText(text, x, y);
  }
}
function drawSelection(r) {
  if (selected < 0) return;
  const x = screenX(placeX[selected]), y = screenY(placeY[selected]);
  context.fillStyle = colours.kinds[places[selected].kind % COLOURS];
  drawPoints([x, y], r, places[selected].kind);
  context.beginPath();
  context.arc(x, y, r + 4, 0, 2 * Math.PI);
  context.strokeStyle = colours.selection;
  context.lineWidth = 2.5;
  context.stroke();
}
function drawCrosshair() {
  context.strokeStyle = colours.selection;
  context.lineWidth = 1.5;
  context.beginPath();
  context.moveTo(width / 2 - 9, height / 2);
  context.lineTo(width / 2 + 9, height / 2);
  context.moveTo(width / 2, height / 2 - 9);
  context.lineTo(width / 2, height / 2 + 9);
  context.stroke();
}
function updateScaleBar() {
  const metres = roundStep(metresPerPixel() * 55);
  element("scale").style.width = `${metres / metresPerPixel()}px`;
  element("metres").textContent = metres >= 1000 ? `${metres / 1000} km` : metres >= 1 ? `${metres} m` : `${Math.round(metres * 100)} cm`;
}
// Visible places within maxPx of a point of the canvas, nearest first; equal distances in table order.
function placesNear(px, py, maxPx) {
  const near = [];
  for (let i = 0; i < placeCount; i++) {
    if (!kindVisible[places[i].kind] && i !== selected) continue;
    const distance = Math.hypot(screenX(placeX[i]) - px, screenY(placeY[i]) - py);
    if (distance <= maxPx) near.push([distance, i]);
  }
  return near.sort((a, b) => a[0] - b[0] || a[1] - b[1]).map(([, i]) => i);
}
function resize() {
  const box = element("map").getBoundingClientRect();
  pixelRatio = window.devicePixelRatio || 1;
  width = Math.max(1, box.width);
  height = Math.max(1, box.height);
  canvas.width = Math.round(width * pixelRatio);
  canvas.height = Math.round(height * pixelRatio);
  if (showsWholeCity) fitCity();
  draw();  // at once: resizing a canvas clears it
}

// --- elements that panels share ---------------------------------------------------------------------------------
function createNode(tag, text, attributes = {}) {
  const created = document.createElement(tag);
  if (text !== undefined) created.textContent = text;
  for (const [name, value] of Object.entries(attributes)) created.setAttribute(name, value);
  return created;
}
function swatch(kind) {
  const shape = Math.floor(kind / COLOURS) % SHAPES;
  return createNode("span", undefined, { class: `swatch k${kind % COLOURS} s${shape}`, "aria-hidden": "true" });
}

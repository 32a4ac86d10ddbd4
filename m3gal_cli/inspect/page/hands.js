// Mouse, fingers and keys, and the start of it all.
// --- pointer and keys ---------------------------------------------------------------------------------------
const held = new Map();  // pointers that are down, by id
let travelled = 0, several = false;
const spot = (event) => {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};
canvas.addEventListener("pointerdown", (event) => {
  if (!held.size) { travelled = 0; several = false; }
  held.set(event.pointerId, spot(event));
  several ||= held.size > 1;
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  const [x, y] = spot(event), last = held.get(event.pointerId);
  if (!last) {
    if (event.pointerType === "mouse") canvas.classList.toggle("near", near(x, y, radius() + 3).length > 0);
    return;
  }
  if (held.size === 1) {
    travelled += Math.hypot(x - last[0], y - last[1]);
    if (travelled > MOVED_PX) { canvas.classList.add("held"); pan(x - last[0], y - last[1]); }
  } else if (held.size === 2) {
    const [other] = [...held].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    const before = Math.hypot(last[0] - other[0], last[1] - other[1]), after = Math.hypot(x - other[0], y - other[1]);
    pan((x - last[0]) / 2, (y - last[1]) / 2);
    if (before > 0 && after > 0) zoom(after / before, (x + other[0]) / 2, (y + other[1]) / 2);
  }
  held.set(event.pointerId, [x, y]);
});
const release = (event) => { held.delete(event.pointerId); canvas.classList.remove("held"); };
canvas.addEventListener("pointercancel", release);
canvas.addEventListener("pointerup", (event) => {
  release(event);
  if (travelled > MOVED_PX || several) return;
  const reach = event.pointerType === "mouse" ? radius() + 4 : 22, [first, ...others] = near(...spot(event), reach);
  if (first === undefined) return;
  choose(first, others.filter((i) => Math.hypot(screenX(X[i]) - screenX(X[first]), screenY(Y[i]) - screenY(Y[first])) <= radius()));
});
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(2 ** (-event.deltaY / (event.deltaMode === 1 ? 9 : event.deltaMode === 2 ? 1 : 300)), ...spot(event));
}, { passive: false });
canvas.addEventListener("dblclick", (event) => zoom(2, ...spot(event)));
canvas.addEventListener("keydown", (event) => {
  const moves = { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] };
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (moves[event.key]) pan(...moves[event.key]);
  else if (event.key === "+" || event.key === "=") zoom(1.5);
  else if (event.key === "-" || event.key === "_") zoom(1 / 1.5);
  else if (event.key === "Home" || event.key === "0") fit();
  else if (event.key === "Enter" || event.key === " ") {
    const [first, ...others] = near(width / 2, height / 2, Infinity);
    if (first !== undefined) choose(first, others.filter((i) => X[i] === X[first] && Y[i] === Y[first]));
  } else return;
  event.preventDefault();
});
canvas.addEventListener("focus", redraw);
canvas.addEventListener("blur", redraw);
el("in").addEventListener("click", () => zoom(1.6));
el("out").addEventListener("click", () => zoom(1 / 1.6));
el("fit").addEventListener("click", fit);

el("summary").textContent = data.summary;
el("attribution").textContent = data.attribution;
if (window.matchMedia("(max-width: 640px)").matches) el("legend").open = false;
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); redraw(); });
readColours();
new ResizeObserver(resize).observe(el("map"));

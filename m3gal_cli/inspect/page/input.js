// Input by mouse, touch and keyboard, and the initialisation of the page.
// --- pointers and keys --------------------------------------------------------------------------------------
const pointers = new Map();  // pressed pointers by id, with their last position
let draggedPx = 0, multiTouch = false;
const positionOf = (event) => {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};
canvas.addEventListener("pointerdown", (event) => {
  if (!pointers.size) { draggedPx = 0; multiTouch = false; }
  pointers.set(event.pointerId, positionOf(event));
  multiTouch ||= pointers.size > 1;
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  const [x, y] = positionOf(event), last = pointers.get(event.pointerId);
  if (!last) {
    if (event.pointerType === "mouse") canvas.classList.toggle("over-point", placesNear(x, y, pointRadius() + 3).length > 0);
    return;
  }
  if (pointers.size === 1) {
    draggedPx += Math.hypot(x - last[0], y - last[1]);
    if (draggedPx > DRAG_PX) { canvas.classList.add("dragging"); pan(x - last[0], y - last[1]); }
  } else if (pointers.size === 2) {
    const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    const before = Math.hypot(last[0] - other[0], last[1] - other[1]), after = Math.hypot(x - other[0], y - other[1]);
    pan((x - last[0]) / 2, (y - last[1]) / 2);
    if (before > 0 && after > 0) zoom(after / before, (x + other[0]) / 2, (y + other[1]) / 2);
  }
  pointers.set(event.pointerId, [x, y]);
});
const releasePointer = (event) => { pointers.delete(event.pointerId); canvas.classList.remove("dragging"); };
canvas.addEventListener("pointercancel", releasePointer);
canvas.addEventListener("pointerup", (event) => {
  releasePointer(event);
  if (draggedPx > DRAG_PX || multiTouch) return;
  const maxPx = event.pointerType === "mouse" ? pointRadius() + 4 : 22;
  const [first, ...others] = placesNear(...positionOf(event), maxPx);
  if (first === undefined) return;
  const distance = (i) => Math.hypot(placeX[i] - placeX[first], placeY[i] - placeY[first]) * view.scale;
  selectPlace(first, others.filter((i) => distance(i) <= pointRadius()));
});
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(2 ** (-event.deltaY / (event.deltaMode === 1 ? 9 : event.deltaMode === 2 ? 1 : 300)), ...positionOf(event));
}, { passive: false });
canvas.addEventListener("dblclick", (event) => zoom(2, ...positionOf(event)));
canvas.addEventListener("keydown", (event) => {
  const moves = { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] };
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (moves[event.key]) pan(...moves[event.key]);
  else if (event.key === "+" || event.key === "=") zoom(1.5);
  else if (event.key === "-" || event.key === "_") zoom(1 / 1.5);
  else if (event.key === "Home" || event.key === "0") fitCity();
  else if (event.key === "Enter" || event.key === " ") {
    const [first, ...others] = placesNear(width / 2, height / 2, Infinity);
    if (first !== undefined) selectPlace(first, others.filter((i) => placeX[i] === placeX[first] && placeY[i] === placeY[first]));
  } else return;
  event.preventDefault();
});
canvas.addEventListener("focus", requestDraw);
canvas.addEventListener("blur", requestDraw);
element("in").addEventListener("click", () => zoom(1.6));
element("out").addEventListener("click", () => zoom(1 / 1.6));
element("fit").addEventListener("click", fitCity);

element("summary").textContent = data.summary;
element("attribution").textContent = data.attribution;
if (window.matchMedia("(max-width: 640px)").matches) element("legend").open = false;
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); requestDraw(); });
readColours();
new ResizeObserver(resize).observe(element("map"));

// The place chosen, the legend that filters, the search.
// --- choosing -----------------------------------------------------------------------------------------------
function near(px, py, reach) {  // visible places within reach, the nearest first
  const found = [];
  for (let i = 0; i < count; i++) {
    if (!shown[places[i].kind] && i !== chosen) continue;
    const away = Math.hypot(screenX(X[i]) - px, screenY(Y[i]) - py);
    if (away <= reach) found.push([away, i]);
  }
  return found.sort((a, b) => a[0] - b[0] || a[1] - b[1]).map(([, i]) => i);
}
function choose(i, others = []) {
  chosen = i;
  show(places[i], others);
  el("said").textContent = `${title(places[i])}, ${data.kinds[places[i].kind]}, ${places[i].views.length / 2} views`;
  redraw();
}
function goTo(i) {
  view.x = X[i];
  view.y = Y[i];
  view.scale = Math.max(view.scale, EARTH_M * Math.cos(places[i].lat * Math.PI / 180) / 2);  // two metres a pixel
  limit();
  choose(i);
  if (window.matchMedia("(max-width: 640px)").matches) el("map").scrollIntoView({ block: "start" });
}
function node(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
function show(place, others) {
  const panel = el("place");
  const parts = [node("h2", title(place), { dir: "auto" })];
  const kind = node("p", undefined, { class: "kind" });
  kind.append(swatch(place.kind), ` ${place.category || data.kinds[place.kind]}`);
  parts.push(kind, node("p", `${place.id} · ${place.lng.toFixed(6)}, ${place.lat.toFixed(6)}`, { class: "soft" }));
  if (others.length) {
    const here = node("div", undefined, { id: "here" });
    for (const i of others.slice(0, 20)) {
      const button = node("button", title(places[i]), { type: "button", dir: "auto" });
      button.addEventListener("click", () => {
        choose(i, [chosen, ...others].filter((other) => other !== i));
        panel.focus();
      });
      here.append(button);
    }
    parts.push(node("h3", others.length > 20 ? `Also here (20 of ${others.length})` : "Also here"), here);
  }
  if (place.facts.length) {
    const facts = node("dl", undefined, { class: "facts" });
    for (let n = 0; n < place.facts.length; n += 2)
      facts.append(node("dt", data.factNames[place.facts[n]]), node("dd", place.facts[n + 1], { dir: "auto" }));
    parts.push(node("h3", "Facts"), facts);
  }
  const views = node("dl", undefined, { class: "views" });
  for (let n = 0; n < place.views.length; n += 2) {
    if (n === 0 || place.views[n] !== place.views[n - 2]) views.append(node("dt", data.viewKinds[place.views[n]]));
    views.append(node("dd", place.views[n + 1], { dir: "auto" }));
  }
  parts.push(node("h3", place.views.length ? `Views (${place.views.length / 2})` : "No views"), views);
  panel.replaceChildren(...parts);
  panel.scrollTop = 0;
}
const swatch = (kind) => node("span", undefined, { class: `swatch k${kind % COLOURS} s${Math.floor(kind / COLOURS) % SHAPES}`, "aria-hidden": "true" });

// --- legend -------------------------------------------------------------------------------------------------
const boxes = data.kinds.map((name, kind) => {
  const item = node("li"), label = node("label"), box = node("input", undefined, { type: "checkbox" });
  box.checked = true;
  box.addEventListener("change", () => { shown[kind] = box.checked; redraw(); });
  label.append(box, swatch(kind), node("span", name), node("span", byKind[kind].length.toLocaleString("en"), { class: "count" }));
  item.append(label);
  el("kinds").append(item);
  return box;
});
function tick(value) {
  boxes.forEach((box, kind) => { box.checked = value; shown[kind] = value; });
  redraw();
}
el("all").addEventListener("click", () => tick(true));
el("none").addEventListener("click", () => tick(false));

// --- search -------------------------------------------------------------------------------------------------
const plain = (text) => text.normalize("NFKC").toLowerCase();
function search() {
  const typed = plain(el("search").value).trim();
  active = -1;
  if (!typed) {
    matches = null;
    list([], "");
    return;
  }
  haystacks ??= places.map((p) => plain([p.name, p.id, ...p.views.filter((_, n) => n % 2)].join("\n")));
  const words = typed.split(/\s+/), found = [];
  for (let i = 0; i < count; i++) if (words.every((word) => haystacks[i].includes(word))) found.push(i);
  matches = new Set(found);
  const rank = (i) => {
    const name = plain(places[i].name);
    return name === typed ? 0 : name.startsWith(typed) ? 1 : name.includes(typed) ? 2 : 3;
  };
  const ranks = new Map(found.map((i) => [i, rank(i)]));
  found.sort((a, b) => ranks.get(a) - ranks.get(b) || a - b);
  const total = found.length.toLocaleString("en");
  list(found.slice(0, LISTED), found.length > LISTED ? `${total} places, the first ${LISTED} listed` : `${total} ${found.length === 1 ? "place" : "places"}`);
}
function list(found, told) {
  listed = found;
  el("found").textContent = told;
  el("search").setAttribute("aria-expanded", String(found.length > 0));
  el("results").replaceChildren(...found.map((i, n) => {
    const item = node("li", title(places[i]), { role: "option", id: `option-${n}`, "aria-selected": "false", dir: "auto" });
    const first = places[i].views[1];
    item.append(node("small", first && first !== title(places[i]) ? first : data.kinds[places[i].kind]));
    item.addEventListener("click", () => { point(n); goTo(i); });
    return item;
  }));
  point(-1);
  redraw();
}
function point(n) {
  active = n;
  el("results").querySelectorAll("li").forEach((item, k) => item.setAttribute("aria-selected", String(k === n)));
  if (n < 0) el("search").removeAttribute("aria-activedescendant");
  else {
    el("search").setAttribute("aria-activedescendant", `option-${n}`);
    el(`option-${n}`).scrollIntoView({ block: "nearest" });
  }
}
el("search").addEventListener("input", search);
el("search").addEventListener("keydown", (event) => {
  if (event.isComposing) return;  // an input method is still at work: its Enter is not ours
  if ((event.key === "ArrowDown" || event.key === "ArrowUp") && listed.length) {
    const step = event.key === "ArrowDown" ? 1 : -1;
    point(active < 0 && step < 0 ? listed.length - 1 : (active + step + listed.length) % listed.length);
    event.preventDefault();
  } else if (event.key === "Enter" && listed.length) {
    if (active < 0) point(0);
    goTo(listed[active]);
    event.preventDefault();
  } else if (event.key === "Escape") {
    el("search").value = "";
    search();
  }
});

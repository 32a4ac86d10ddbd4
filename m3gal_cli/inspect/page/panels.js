// Panels beside the map: details of the selected place, legend with filters, search.
setPlaces(data.places.map(([id, name, kind, lng, lat, category, facts, views]) =>
  ({ id, name, kind, lng, lat, category, facts, views, title: name || (views.length ? views[1] : id) })));

// --- selection ----------------------------------------------------------------------------------------------
function selectPlace(i, others = []) {
  selected = i;
  showDetails(places[i], others);
  const place = places[i], count = place.views.length / 2;
  element("announcement").textContent = `${place.title}, ${data.kinds[place.kind]}, ${count} views`;
  requestDraw();
}
function centreOn(i) {
  view.x = placeX[i];
  view.y = placeY[i];
  view.scale = Math.max(view.scale, EARTH_M * Math.cos(places[i].lat * Math.PI / 180) / 2);  // at most two metres per pixel
  clampView();
  selectPlace(i);
  if (window.matchMedia("(max-width: 640px)").matches) element("map").scrollIntoView({ block: "start" });
}
function showDetails(place, others) {
  const panel = element("details");
  const parts = [createNode("h2", place.title, { dir: "auto" })];
  const kind = createNode("p", undefined, { class: "kind" });
  kind.append(swatch(place.kind), ` ${place.category || data.kinds[place.kind]}`);
  parts.push(kind, createNode("p", `${place.id} · ${place.lng.toFixed(6)}, ${place.lat.toFixed(6)}`, { class: "muted" }));
  if (others.length) {
    const sameLocation = createNode("div", undefined, { id: "same-location" });
    for (const i of others.slice(0, 20)) {
      const button = createNode("button", places[i].title, { type: "button", dir: "auto" });
      button.addEventListener("click", () => {
        selectPlace(i, [selected, ...others].filter((other) => other !== i));
        panel.focus();
      });
      sameLocation.append(button);
    }
    parts.push(createNode("h3", others.length > 20 ? `Also here (20 of ${others.length})` : "Also here"), sameLocation);
  }
  if (place.facts.length) {
    const facts = createNode("dl", undefined, { class: "facts" });
    for (let n = 0; n < place.facts.length; n += 2)
      facts.append(createNode("dt", data.factNames[place.facts[n]]), createNode("dd", place.facts[n + 1], { dir: "auto" }));
    parts.push(createNode("h3", "Facts"), facts);
  }
  const views = createNode("dl", undefined, { class: "views" });
  for (let n = 0; n < place.views.length; n += 2) {
    if (n === 0 || place.views[n] !== place.views[n - 2]) views.append(createNode("dt", data.viewKinds[place.views[n]]));
    views.append(createNode("dd", place.views[n + 1], { dir: "auto" }));
  }
  parts.push(createNode("h3", place.views.length ? `Views (${place.views.length / 2})` : "No views"), views);
  panel.replaceChildren(...parts);
  panel.scrollTop = 0;
}
// --- legend -------------------------------------------------------------------------------------------------
const checkboxes = data.kinds.map((name, kind) => {
  const item = createNode("li"), label = createNode("label"), box = createNode("input", undefined, { type: "checkbox" });
  box.checked = true;
  box.addEventListener("change", () => { kindVisible[kind] = box.checked; requestDraw(); });
  const count = createNode("span", placesOfKind[kind].length.toLocaleString("en"), { class: "count" });
  label.append(box, swatch(kind), createNode("span", name), count);
  item.append(label);
  element("kinds").append(item);
  return box;
});
function setAllKinds(value) {
  checkboxes.forEach((box, kind) => { box.checked = value; kindVisible[kind] = value; });
  requestDraw();
}
element("all").addEventListener("click", () => setAllKinds(true));
element("none").addEventListener("click", () => setAllKinds(false));

// --- search -------------------------------------------------------------------------------------------------
const normalise = (text) => text.normalize("NFKC").toLowerCase();
function search() {
  const typed = normalise(element("search").value).trim();
  activeResult = -1;
  if (!typed) {
    matches = null;
    showResults([], "");
    return;
  }
  searchTexts ??= places.map((p) => normalise([p.name, p.id, ...p.views.filter((_, n) => n % 2)].join("\n")));
  const words = typed.split(/\s+/), rows = [];
  for (let i = 0; i < placeCount; i++) if (words.every((word) => searchTexts[i].includes(word))) rows.push(i);
  matches = new Set(rows);
  const rank = (i) => {
    const name = normalise(places[i].name);
    return name === typed ? 0 : name.startsWith(typed) ? 1 : name.includes(typed) ? 2 : 3;
  };
  const ranks = new Map(rows.map((i) => [i, rank(i)]));
  rows.sort((a, b) => ranks.get(a) - ranks.get(b) || a - b);
  const total = rows.length.toLocaleString("en");
  const message = `${total} ${rows.length === 1 ? "place" : "places"}`;
  const cut = rows.length > MAX_RESULTS ? `, the first ${MAX_RESULTS} listed` : "";
  showResults(rows.slice(0, MAX_RESULTS), message + cut);
}
function showResults(rows, message) {
  results = rows;
  element("result-count").textContent = message;
  element("search").setAttribute("aria-expanded", String(rows.length > 0));
  element("results").replaceChildren(...rows.map((i, n) => {
    const item = createNode("li", places[i].title, { role: "option", id: `option-${n}`, "aria-selected": "false", dir: "auto" });
    const first = places[i].views[1];
    item.append(createNode("small", first && first !== places[i].title ? first : data.kinds[places[i].kind]));
    item.addEventListener("click", () => { setActiveResult(n); centreOn(i); });
    return item;
  }));
  setActiveResult(-1);
  requestDraw();
}
function setActiveResult(n) {
  activeResult = n;
  element("results").querySelectorAll("li").forEach((item, k) => item.setAttribute("aria-selected", String(k === n)));
  if (n < 0) element("search").removeAttribute("aria-activedescendant");
  else {
    element("search").setAttribute("aria-activedescendant", `option-${n}`);
    element(`option-${n}`).scrollIntoView({ block: "nearest" });
  }
}
element("search").addEventListener("input", search);
element("search").addEventListener("keydown", (event) => {
  if (event.isComposing) return;  // an input method is composing a character: Enter belongs to it
  if ((event.key === "ArrowDown" || event.key === "ArrowUp") && results.length) {
    const step = event.key === "ArrowDown" ? 1 : -1;
    setActiveResult(activeResult < 0 && step < 0 ? results.length - 1 : (activeResult + step + results.length) % results.length);
    event.preventDefault();
  } else if (event.key === "Enter" && results.length) {
    if (activeResult < 0) setActiveResult(0);
    centreOn(results[activeResult]);
    event.preventDefault();
  } else if (event.key === "Escape") {
    element("search").value = "";
    search();
  }
});

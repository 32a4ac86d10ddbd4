// Panels beside the map: kinds of miss with filters, the list of misses, and the selected miss.
const ANSWER = 0, GOLD = 1, QUERY = 2;  // positions in data.kinds
const misses = data.misses, kindNames = data.missKinds.map(([name]) => name);
const kindShown = new Map(kindNames.map((name) => [name, true]));
const buttons = [];  // of the list, by number of the miss
let shown = [], current = -1;  // numbers of the misses in the list, and of the selected one

const nameOf = (address) => address.split(/[,，]/)[0].trim() || address;
const format = (value, digits = 3) => value === null ? "–" : value.toFixed(digits).replace("-", "−");
function formatMetres(metres) {
  if (metres === null) return "–";
  return metres < 1000 ? `${Math.round(metres)} m` : `${(metres / 1000).toLocaleString("en", { maximumFractionDigits: metres < 1e5 ? 1 : 0 })} km`;
}
function metresBetween(a, b) {
  const rad = Math.PI / 180, dLat = (b.lat - a.lat) * rad, dLng = (b.lng - a.lng) * rad;
  const h = Math.sin(dLat / 2) ** 2 + Math.cos(a.lat * rad) * Math.cos(b.lat * rad) * Math.sin(dLng / 2) ** 2;
  return EARTH_M / Math.PI * Math.asin(Math.min(1, Math.sqrt(h)));
}

// --- selected miss ------------------------------------------------------------------------------------------
function selectMiss(number) {
  if (current >= 0) buttons[current].removeAttribute("aria-current");
  current = number;
  const miss = misses[number], points = [];
  if (miss.lng !== null) points.push({ title: "query location", kind: QUERY, lng: miss.lng, lat: miss.lat });
  miss.answers.forEach((answer, n) => {
    if (!answer.is_gold) points.push({ title: `${n + 1} ${nameOf(answer.address)}`, kind: ANSWER, lng: answer.lng, lat: answer.lat });
  });
  points.push({ title: `gold: ${nameOf(miss.gold.address)}`, kind: GOLD, lng: miss.gold.lng, lat: miss.gold.lat });
  setPlaces(points);
  selected = points.length - 1;  // the gold is marked, and its label comes before others
  buttons[number].setAttribute("aria-current", "true");
  const list = element("misses"), item = buttons[number].parentElement;
  list.scrollTop = Math.max(item.offsetTop + item.offsetHeight - list.clientHeight, Math.min(list.scrollTop, item.offsetTop));
  showMiss(miss);
  fitCity();
}
function selectPlace(i) {  // a click on a point marks it
  selected = i;
  requestDraw();
}
function showMiss(miss) {
  const position = shown.indexOf(current);
  const steps = createNode("p", undefined, { class: "row" });
  for (const [text, step] of [["Previous", -1], ["Next", 1]]) {
    const button = createNode("button", text, { type: "button" }), target = shown[position + step];
    button.disabled = position < 0 || target === undefined;
    button.addEventListener("click", () => {
      selectMiss(target);
      element("details").querySelectorAll(".row button")[step < 0 ? 0 : 1].focus({ preventScroll: true });
    });
    steps.append(button);
  }
  const rank = miss.rank === null ? "The gold is not in the table." : `The gold has rank ${miss.rank.toLocaleString("en")}.`;
  const apart = miss.distance_m === null ? "There is no answer." : `The first answer is ${formatMetres(miss.distance_m)} from it.`;
  const explanation = data.missKinds.find(([name]) => name === miss.kind)[1];
  element("details").replaceChildren(
    steps, createNode("h2", miss.query, { dir: "auto" }), createNode("p", `${miss.kind}: ${explanation}`, { class: "kind" }),
    createNode("p", `${rank} ${apart}`), createNode("h3", "Answers"), answersTable(miss), ...featuresTable(miss));
  element("details").scrollTop = 0;
}
function tableOf(header, rows) {
  const table = createNode("table"), head = createNode("tr"), body = createNode("tbody");
  head.append(...header.map((text) => createNode("th", text, { scope: "col", class: text === "POI" || text === "feature" ? "text" : "number" })));
  body.append(...rows);
  table.append(createNode("thead"), body);
  table.firstChild.append(head);
  return table;
}
function answersTable(miss) {
  const listed = miss.answers.map((answer, n) => [String(n + 1), answer]);
  if (!miss.answers.some((answer) => answer.is_gold)) listed.push([miss.rank === null ? "–" : miss.rank.toLocaleString("en"), miss.gold]);
  const rows = listed.map(([rank, answer]) => {
    const gold = answer.is_gold, row = createNode("tr");
    const poi = createNode("td", undefined, { dir: "auto" });
    poi.append(swatch(gold ? GOLD : ANSWER), ` ${answer.address}`);
    if (answer.poi_id !== null) poi.append(createNode("small", answer.poi_id));
    row.append(createNode("td", rank), poi, createNode("td", format(answer.probability)),
      createNode("td", gold ? "gold" : formatMetres(metresBetween(answer, miss.gold))));
    return row;
  });
  if (miss.no_match !== null) {
    const row = createNode("tr");
    row.append(createNode("td", "–"), createNode("td", "no match", { dir: "auto" }), createNode("td", format(miss.no_match)), createNode("td", "–"));
    rows.push(row);
  }
  return tableOf(["#", "POI", "probability", "to gold"], rows);
}
function featuresTable(miss) {
  if (!miss.features.length) return [];
  const rows = miss.features.map(({ name, gold, first }) => {
    const row = createNode("tr");
    row.append(createNode("th", name.replaceAll("_", "_\u200b"), { scope: "row" }));
    for (const value of [gold, first, gold === null ? null : first - gold]) row.append(createNode("td", format(value, 2)));
    return row;
  });
  const hint = "Scaled as in the reranker. The difference is first answer − gold.";
  return [createNode("h3", "Features"), createNode("p", hint, { class: "muted" }), tableOf(["feature", "gold", "first answer", "difference"], rows)];
}

// --- list and kinds -----------------------------------------------------------------------------------------
misses.forEach((miss, number) => {
  const button = createNode("button", undefined, { type: "button", dir: "auto" });
  button.append(createNode("span", miss.query), createNode("small", `${miss.kind} · ${miss.rank === null ? "not in the table" : `rank ${miss.rank.toLocaleString("en")}`}`));
  button.addEventListener("click", () => {
    selectMiss(number);
    if (window.matchMedia("(max-width: 640px)").matches) element("map").scrollIntoView({ block: "start" });
  });
  const item = createNode("li");
  item.append(button);
  element("misses").append(item);
  buttons.push(button);
});
function filterMisses() {
  shown = [];
  misses.forEach((miss, number) => {
    const visible = kindShown.get(miss.kind);
    buttons[number].parentElement.hidden = !visible;
    if (visible) shown.push(number);
  });
  element("shown-count").textContent = `${shown.length.toLocaleString("en")} ${shown.length === 1 ? "miss" : "misses"}`;
  if (current >= 0 && shown.includes(current)) showMiss(misses[current]);
  else if (shown.length) selectMiss(shown[0]);
}
const checkboxes = kindNames.map((name) => {
  const item = createNode("li"), label = createNode("label"), box = createNode("input", undefined, { type: "checkbox" });
  const total = misses.filter((miss) => miss.kind === name).length;
  box.checked = true;
  box.addEventListener("change", () => { kindShown.set(name, box.checked); filterMisses(); });
  label.append(box, createNode("span", name), createNode("span", total.toLocaleString("en"), { class: "count" }));
  item.append(label);
  element("kinds").append(item);
  return box;
});
function setAllKinds(value) {
  checkboxes.forEach((box, n) => { box.checked = value; kindShown.set(kindNames[n], value); });
  filterMisses();
}
element("all").addEventListener("click", () => setAllKinds(true));
element("none").addEventListener("click", () => setAllKinds(false));
filterMisses();

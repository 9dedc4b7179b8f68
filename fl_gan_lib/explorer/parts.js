// What the explorer, the live attack and the drawing pad share: elements, pictures, charts.

const [COLUMNS, FEW_COLUMNS, NARROW, GAP] = [10, 5, 420, 2]; // images a line; px
const CHART = { width: 280, height: 170, left: 34, right: 12, top: 34, bottom: 30 };

function add(parent, tag, attributes = {}, text) {
  return append(parent, document.createElement(tag), attributes, text);
}

function svg(parent, tag, attributes, text) {
  return append(parent, document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, text);
}

function append(parent, element, attributes, text) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.append(String(text));
  parent.append(element);
  return element;
}

function button(parent, text, onClick, attributes = {}) {
  const element = add(parent, "button", { type: "button", ...attributes }, text);
  element.addEventListener("click", onClick);
  return element;
}

function select(parent, label, onChange) {
  const wrapper = add(parent, "label", { class: "fl-gan-select" }, label);
  const element = add(wrapper, "select");
  element.addEventListener("change", () => onChange(element.value));
  return element;
}

function options(element, names, chosen) {
  element.replaceChildren();
  names.forEach((name) => add(element, "option", { value: name }, name || "nothing"));
  element.value = chosen;
}

// A play button, a slider and a clock over recorded rounds. `onMove` gets the place of a round.
function timeline(parent, onMove) {
  let timer = null;
  const row = add(parent, "div", { class: "fl-gan-row" });
  const play = button(row, "▶ Play", () => (timer ? pause() : start()), { class: "fl-gan-play" });
  const slider = add(row, "input", { type: "range", min: 0, step: 1, "aria-label": "round" });
  const clock = add(row, "output", { class: "fl-gan-clock" });
  slider.addEventListener("input", () => {
    pause();
    onMove(Number(slider.value));
  });
  const atEnd = () => Number(slider.value) === Number(slider.max);
  const start = () => {
    if (atEnd()) onMove(0);
    timer = setInterval(() => {
      onMove(Number(slider.value) + 1);
      if (atEnd()) pause();
    }, 400);
    play.textContent = "⏸ Pause";
  };
  const pause = () => {
    clearInterval(timer);
    timer = null;
    play.textContent = "▶ Play";
  };
  const show = (rounds, place, planned) => {
    slider.max = Math.max(0, rounds.length - 1);
    slider.value = place;
    slider.disabled = play.disabled = rounds.length < 2;
    const round = rounds[place];
    slider.setAttribute("aria-valuetext", round === undefined ? "no record" : `round ${round}`);
    clock.textContent = round === undefined ? "" : `round ${round} of ${planned ?? rounds.at(-1)}`;
  };
  return { show, pause };
}

// The place of the recorded round that is nearest to `wanted`; the last one where there is no wish.
function nearest(rounds, wanted = rounds.at(-1)) {
  const distances = rounds.map((round) => Math.abs(round - wanted));
  return distances.indexOf(Math.min(...distances));
}

// A picture of rows of images, decoded once, so that a row is drawn at once: nothing to wait for, no flicker.
async function decoded(png) {
  const picture = new Image();
  picture.src = png;
  await picture.decode();
  return picture;
}

// One row of a picture on a canvas, ten images a line, on a telephone five.
function draw(canvas, picture, side, row, label) {
  const count = picture.width / side;
  const columns = Math.min(count, canvas.parentElement.clientWidth < NARROW ? FEW_COLUMNS : COLUMNS);
  const lines = Math.ceil(count / columns);
  const [width, height] = [columns * (side + GAP) + GAP, lines * (side + GAP) + GAP];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  canvas.style.maxWidth = `${width * 2.1}px`;
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  for (let image = 0; image < count; image++) {
    const [x, y] = [image % columns, Math.floor(image / columns)].map((place) => place * (side + GAP) + GAP);
    context.drawImage(picture, image * side, row * side, side, side, x, y, side, side);
  }
  canvas.setAttribute("aria-label", label);
}

// A number over the rounds, of one run or of two, with its anchors as faint lines.
// `series`: {side, rounds, values}; `anchors`: [[name, value]]. Returns how to mark a round, by its place in each series.
function drawChart(parent, name, highest, series, anchors) {
  const { width, height, left, right, top, bottom } = CHART;
  const end = Math.max(...series.map((one) => one.rounds.at(-1)));
  const x = (round) => left + ((width - left - right) * round) / end;
  const y = (value) => height - bottom - ((height - top - bottom) * Math.max(value, -0.05)) / highest;
  const beside = anchors.map(([anchor, value]) => `; ${anchor} ${value.toFixed(2)}`).join("");
  const chart = svg(parent, "svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img" });
  const title = svg(chart, "text", { x: left, y: 18, class: "fl-gan-title" }, `${name} `);
  for (const value of [0, 1]) {
    svg(chart, "line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "fl-gan-grid" });
    svg(chart, "text", { x: left - 8, y: y(value) + 6, "text-anchor": "end" }, value);
  }
  svg(chart, "text", { x: left, y: height - 6 }, "round");
  svg(chart, "text", { x: width - right, y: height - 6, "text-anchor": "end" }, end);
  let free = Infinity; // names of anchors do not cover each other
  for (const [anchor, value] of [...anchors].sort((one, other) => one[1] - other[1])) {
    svg(chart, "line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "fl-gan-anchor" });
    const at = Math.min(y(value) - 3, free - 13);
    svg(chart, "text", { x: width - right, y: at, "text-anchor": "end", class: "fl-gan-anchor" }, anchor);
    free = at;
  }
  const line = svg(chart, "line", { y1: top - 6, y2: height - bottom, class: "fl-gan-now" });
  const marks = series.map(({ side, rounds, values }) => {
    const colour = { class: side ? "fl-gan-second" : "fl-gan-first" };
    const points = rounds.map((round, place) => [x(round), values[place]]);
    const known = points.filter(([, value]) => value !== null).map(([at, value]) => `${at},${y(value)}`);
    svg(chart, "polyline", { points: known.join(" "), ...colour });
    return { word: svg(title, "tspan", colour), circle: svg(chart, "circle", { r: 6, ...colour }) };
  });
  return (places) => {
    const now = series.map(({ values }, order) => values[places[order]]);
    const words = now.map((value) => (value === null ? "–" : value.toFixed(2)));
    chart.setAttribute("aria-label", `${name} ${words.join(" beside ")}, over the rounds${beside}`);
    marks.forEach(({ word, circle }, order) => {
      const at = x(series[order].rounds[places[order]]);
      word.textContent = ` ${order ? "| " : ""}${words[order]}`;
      for (const end of order ? [] : ["x1", "x2"]) line.setAttribute(end, at);
      circle.setAttribute("cx", at);
      circle.setAttribute("cy", y(now[order] ?? 0));
      circle.setAttribute("visibility", now[order] === null ? "hidden" : "visible");
    });
  };
}

// JupyterLab would otherwise take the arrow keys for shortcuts of its own.
function keepKeys(root) {
  root.querySelectorAll("input, button, select").forEach((one) => (one.dataset.lmSuppressShortcuts = "true"));
}

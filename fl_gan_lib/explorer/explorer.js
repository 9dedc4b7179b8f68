// The explorer in the browser. All pictures of a run come at once, so no click and no step waits for a kernel; one is
// asked for the other runs, when they are chosen for the first time, and for the live attack. The same file serves the
// widget and, written into a page, the export without a kernel.

const CHARTS = [
  ["probe", "probe", 1.05],
  ["recognition", "recognition", 1.05],
  ["diversity", "diversity", 1.3],
  ["accuracy", "global accuracy", 1.05],
];
const [COLUMNS, GAP] = [10, 2];
const MOST_BUTTONS = 12; // a list where there are more classes
const CHART = { width: 280, height: 170, left: 34, right: 12, top: 34, bottom: 30 };
const LIVE = "live attack";

export default {
  render({ model, el }) {
    const unmount = mount(el, model.get("first"), model);
    document.querySelectorAll(".fl-gan-page").forEach((page) => page.remove());
    return unmount;
  },
};

function mount(el, firstRun, model) {
  const runs = [structuredClone(firstRun)];
  const names = model ? model.get("names") : [firstRun.name];
  const { classes } = runs[0];
  const recorded = Object.keys(runs[0].targets).filter((target) => !runs[0].targets[target].missing);
  const state = { target: classes[3] === "3" && recorded.includes("3") ? "3" : (recorded[0] ?? "0"), run: runs[0].name, beside: "", index: Infinity };
  let timer = null;

  const root = add(el, "div", { class: "fl-gan" });
  const choice = add(root, "div", { class: "fl-gan-row" });
  const showTarget = picker(choice, classes, (target) => change({ target }));
  const run = select(choice, "run", (name) => change({ run: name }));
  const beside = select(choice, "beside it", (name) => change({ beside: name }));

  const time = add(root, "div", { class: "fl-gan-row" });
  const play = add(time, "button", { type: "button", class: "fl-gan-play" }, "▶ Play");
  const slider = add(time, "input", { type: "range", min: 0, step: 1, "aria-label": "round" });
  const clock = add(time, "output", { class: "fl-gan-clock" });
  play.addEventListener("click", () => (timer ? pause() : start()));
  slider.addEventListener("input", () => {
    pause();
    change({ index: Number(slider.value) });
  });

  const body = add(root, "div", { class: "fl-gan-body" });
  const left = pane(body, "fl-gan-first");
  const right = pane(body, "fl-gan-second");
  const charts = add(body, "div", { class: "fl-gan-charts" });
  const live = model?.get("can_train") ? livePanel(root, model, classes, () => state.target) : null;

  const find = (name) => runs.find((candidate) => candidate.name === name);
  const asked = new Set();
  const record = (name) => {
    if (!name || find(name)) return find(name)?.targets[state.target];
    if (!asked.has(name)) model.send({ kind: "load", run: name });
    asked.add(name);
    return { missing: "Loading. (This takes the notebook's kernel: is it running?)" };
  };
  const show = () => {
    const one = record(state.run);
    const two = record(state.beside);
    const last = one?.rounds ? one.rounds.length - 1 : 0;
    state.index = Math.min(state.index, last);
    slider.max = last;
    slider.value = state.index;
    slider.disabled = play.disabled = last === 0;
    const round = one?.rounds?.[state.index];
    slider.setAttribute("aria-valuetext", round === undefined ? "no record" : `round ${round}`);
    clock.textContent = round === undefined ? "" : `round ${round} of ${one.rounds[last]}`;
    root.classList.toggle("fl-gan-pair", two !== undefined);
    const other = two?.rounds ? nearest(two.rounds, round) : 0;
    showTarget(state.target);
    fill(left, state.run, one, state.index, classes[state.target]);
    fill(right, state.beside, two, other, classes[state.target]);
    drawCharts(charts, [one, two], [state.index, other]);
    live?.show();
  };
  const change = (wanted) => {
    const before = find(state.run)?.targets[state.target]?.rounds;
    const atEnd = state.index >= (before?.length ?? 0) - 1;
    const round = before?.[state.index];
    Object.assign(state, wanted);
    const after = find(state.run)?.targets[state.target]?.rounds;
    // The round stays where it was, whatever else is picked.
    if (!("index" in wanted) && before !== after) goTo(before && !atEnd ? round : Infinity);
    show();
  };
  const goTo = (round) => {
    const rounds = find(state.run)?.targets[state.target]?.rounds;
    state.index = round === Infinity || !rounds ? Infinity : nearest(rounds, round);
    state.round = find(state.run) ? Infinity : round; // for a run that is still to come
  };
  const arrive = async (run) => {
    await decodeAll([run]);
    if (find(run.name)) return;
    runs.push(run);
    if (run.name === state.run) goTo(state.round);
    show();
  };
  const start = () => {
    if (Number(slider.value) === Number(slider.max)) change({ index: 0 });
    timer = setInterval(() => {
      change({ index: state.index + 1 });
      if (Number(slider.value) === Number(slider.max)) pause();
    }, 400);
    play.textContent = "⏸ Pause";
  };
  const pause = () => {
    clearInterval(timer);
    timer = null;
    play.textContent = "▶ Play";
  };
  const offer = () => {
    const offered = find(LIVE) ? [...names, LIVE] : names;
    options(run, offered, state.run);
    options(beside, ["", ...offered], state.beside);
    run.parentElement.hidden = beside.parentElement.hidden = offered.length < 2;
  };
  const grow = async () => {
    const { target, run: record } = model.get("live_run");
    if (!record) return;
    await decode(record);
    if (!find(LIVE)) {
      const missing = classes.map(() => ({ missing: "There was no live attack on this class yet." }));
      runs.push({ name: LIVE, classes, targets: { ...missing } });
    }
    const before = find(LIVE).targets[target].rounds?.length ?? 0;
    const follows = state.run === LIVE && state.target === String(target) && state.index >= before - 1;
    find(LIVE).targets[target] = record;
    if (before === 0 || record.rounds.length === 1) Object.assign(state, { run: LIVE, target: String(target), index: Infinity });
    else if (follows) state.index = Infinity;
    offer();
    show();
  };

  // JupyterLab would otherwise take the arrow keys for shortcuts of its own.
  root.querySelectorAll("input, button, select").forEach((one) => (one.dataset.lmSuppressShortcuts = "true"));
  offer();
  const ready = decodeAll(runs).then(() => {
    show();
    root.dataset.ready = "true";
    if (model) grow();
  });
  const grown = () => ready.then(grow);
  const arrived = (run) => ready.then(() => arrive(run));
  model?.on("change:live_run", grown);
  model?.on("msg:custom", arrived);
  return () => {
    pause();
    live?.unmount();
    model?.off("change:live_run", grown);
    model?.off("msg:custom", arrived);
  };
}

// One side of the comparison: heading, sentence, private images, fakes.
function pane(parent, className) {
  const el = add(parent, "section", { class: className });
  return {
    el,
    heading: add(el, "h3", {}),
    sentence: add(el, "p", { "aria-live": "polite" }),
    body: add(el, "div", {}),
    privateTitle: add(el.lastChild, "p", {}),
    private: add(el.lastChild, "canvas", { role: "img" }),
    fakesTitle: add(el.lastChild, "p", {}),
    fakes: add(el.lastChild, "canvas", { role: "img" }),
  };
}

function fill(side, name, record, index, target) {
  side.el.hidden = record === undefined;
  if (record === undefined) return;
  side.heading.textContent = name;
  side.body.hidden = !record.rounds;
  side.sentence.textContent = record.missing ?? record.sentences[index];
  if (!record.rounds) return;
  side.privateTitle.textContent = record.private_title;
  side.fakesTitle.textContent = record.fakes_title;
  draw(side.private, record.private.picture, record.side, 0, `private images of the class ${target}`);
  draw(side.fakes, record.fakes.picture, record.side, index, `fakes of the class ${target}. ${record.sentences[index]}`);
}

// Row `index` of the picture, ten images a line. Drawn at once from decoded pixels: nothing to wait for, no flicker.
function draw(canvas, picture, side, index, label) {
  const count = picture.width / side;
  const lines = Math.ceil(count / COLUMNS);
  const [width, height] = [COLUMNS * (side + GAP) + GAP, lines * (side + GAP) + GAP];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  for (let image = 0; image < count; image++) {
    const [x, y] = [image % COLUMNS, Math.floor(image / COLUMNS)].map((place) => place * (side + GAP) + GAP);
    context.drawImage(picture, image * side, index * side, side, side, x, y, side, side);
  }
  canvas.setAttribute("aria-label", label);
}

function decode(record) {
  const load = async (part) => {
    part.picture = new Image();
    part.picture.src = part.png;
    await part.picture.decode();
  };
  return Promise.all([load(record.private), load(record.fakes)]);
}

function decodeAll(runs) {
  return Promise.all(runs.flatMap((run) => Object.values(run.targets)).filter((record) => record.rounds).map(decode));
}

function drawCharts(parent, records, indices) {
  const { width, height, left, right, top, bottom } = CHART;
  parent.replaceChildren();
  const shown = records.map((record, side) => ({ ...record, side, index: indices[side] })).filter((one) => one.rounds);
  if (!shown.length) return;
  const end = Math.max(...shown.map((one) => one.rounds.at(-1)));
  const x = (round) => left + ((width - left - right) * round) / end;
  for (const [column, name, highest] of CHARTS) {
    const y = (value) => height - bottom - ((height - top - bottom) * Math.max(value, -0.05)) / highest;
    const now = shown.map((one) => one.metrics[column][one.index]);
    const words = now.map((value) => (value === null ? "–" : value.toFixed(2)));
    const label = `${name} ${words.join(" beside ")}`;
    const chart = svg(parent, "svg", { width, height, role: "img", "aria-label": `${label}, over the rounds` });
    const title = svg(chart, "text", { x: left, y: 18, class: "fl-gan-title" }, `${name} `);
    for (const value of [0, 1]) {
      svg(chart, "line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "fl-gan-grid" });
      svg(chart, "text", { x: left - 8, y: y(value) + 6, "text-anchor": "end" }, value);
    }
    svg(chart, "text", { x: left, y: height - 6 }, "round");
    svg(chart, "text", { x: width - right, y: height - 6, "text-anchor": "end" }, end);
    shown.forEach((one, order) => {
      const side = one.side ? "fl-gan-second" : "fl-gan-first";
      svg(title, "tspan", { class: side }, ` ${order ? "| " : ""}${words[order]}`);
      const points = one.rounds.map((round, place) => [x(round), one.metrics[column][place]]);
      const known = points.filter(([, value]) => value !== null).map(([at, value]) => `${at},${y(value)}`);
      svg(chart, "polyline", { points: known.join(" "), class: side });
      const at = x(one.rounds[one.index]);
      if (!order) svg(chart, "line", { x1: at, x2: at, y1: top - 6, y2: height - bottom, class: "fl-gan-now" });
      if (now[order] !== null) svg(chart, "circle", { cx: at, cy: y(now[order]), r: 6, class: side });
    });
  }
}

// The live attack: start, progress, stop. The kernel does the rest, in a process of its own.
function livePanel(root, model, classes, target) {
  const panel = add(root, "div", { class: "fl-gan-row fl-gan-live" });
  const start = add(panel, "button", { type: "button" });
  const stop = add(panel, "button", { type: "button" }, "■ Stop");
  const bar = add(panel, "progress", { "aria-label": "progress of the live attack" });
  const status = add(panel, "output", {});
  start.addEventListener("click", () => model.send({ kind: "start", target: Number(target()) }));
  stop.addEventListener("click", () => model.send({ kind: "stop" }));
  const show = () => {
    const { running, round, rounds, message } = model.get("live");
    start.textContent = `Start a live attack on ${classes[target()]}`;
    start.disabled = Boolean(running);
    stop.disabled = !running;
    bar.hidden = !rounds;
    bar.max = rounds || 1;
    if (round === null) bar.removeAttribute("value");
    else bar.value = round ?? 0;
    status.textContent = message ?? "";
  };
  model.on("change:live", show);
  return { show, unmount: () => model.off("change:live", show) };
}

// Which class the attacker lacks: a button for each, or a list where they are many. Returns how to show another choice.
function picker(parent, classes, onChange) {
  const legend = "the attacker lacks";
  if (classes.length > MOST_BUTTONS) {
    const list = select(parent, legend, onChange);
    classes.forEach((name, target) => add(list, "option", { value: target }, name));
    return (target) => (list.value = target);
  }
  const group = `fl-gan-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
  const buttons = add(parent, "fieldset", {});
  add(buttons, "legend", {}, legend);
  const radios = classes.map((name, target) => {
    const label = add(buttons, "label", {});
    const radio = add(label, "input", { type: "radio", name: group, value: target, "aria-label": `class ${name}` });
    radio.addEventListener("change", () => onChange(radio.value));
    add(label, "span", { "aria-hidden": "true" }, name);
    return radio;
  });
  return (target) => radios.forEach((radio) => (radio.checked = radio.value === target));
}

function select(parent, label, onChange) {
  const wrapper = add(parent, "label", { class: "fl-gan-select" }, label);
  const element = add(wrapper, "select", {});
  element.addEventListener("change", () => onChange(element.value));
  return element;
}

function options(element, names, chosen) {
  element.replaceChildren();
  names.forEach((name) => add(element, "option", { value: name }, name || "nothing"));
  element.value = chosen;
}

// The place of the recorded round that is nearest to `wanted`; the last one where there is no wish.
function nearest(rounds, wanted = rounds.at(-1)) {
  const distances = rounds.map((round) => Math.abs(round - wanted));
  return distances.indexOf(Math.min(...distances));
}

function add(parent, tag, attributes, text) {
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

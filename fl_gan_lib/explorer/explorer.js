// The explorer of recorded runs. A record has all pictures of a run on one class, so no step of the slider waits for
// anything; it is fetched when it is first chosen.

const CHARTS = [
  ["identified", "named as the person", 1.05],
  ["probe", "probe", 1.05],
  ["recognition", "recognition", 1.05],
  ["diversity", "diversity", 1.3],
  ["accuracy", "global accuracy", 1.05],
];
const MOST_BUTTONS = 12; // a list where there are more classes

// `index`: {classes, offered, runs, first}: the names of classes and of runs, the classes to choose from, and the one to
// show first, by their numbers.
// `fetchRecord(run, target)`: a promise of a record, or of a word on why there is none: {missing}.
function mountExplorer(el, index, fetchRecord) {
  const { classes, offered, runs } = index;
  const state = { target: index.first, run: runs[0], beside: "", place: Infinity, round: Infinity };
  const records = new Map(); // by run and target

  const root = add(el, "div", { class: "fl-gan" });
  const choice = add(root, "div", { class: "fl-gan-row" });
  const showTarget = picker(choice, classes, offered, (target) => change({ target }));
  const run = select(choice, "run", (name) => change({ run: name }));
  const beside = select(choice, "beside it", (name) => change({ beside: name }));
  const time = timeline(root, (place) => change({ place }));
  const body = add(root, "div", { class: "fl-gan-body" });
  const left = pane(body, "fl-gan-first");
  const right = pane(body, "fl-gan-second");
  const drawCharts = charts(add(body, "div", { class: "fl-gan-charts" }));
  options(run, runs, state.run);
  options(beside, ["", ...runs], "");
  run.parentElement.hidden = beside.parentElement.hidden = runs.length < 2;

  const find = (name) => {
    if (!name) return undefined;
    const key = `${name}/${state.target}`;
    if (!records.has(key)) ask(name, state.target, key);
    return records.get(key);
  };
  const ask = async (name, target, key) => {
    records.set(key, { missing: "Loading ..." });
    try {
      const record = await fetchRecord(name, target);
      records.set(key, record.rounds ? await decodeRecord(record) : record);
    } catch (error) {
      records.set(key, { missing: `This record could not be loaded: ${error.message}. Reload the page.` });
    }
    if (name === state.run && target === state.target) settle();
    show();
  };
  const settle = () => {
    const { rounds } = find(state.run);
    state.place = rounds ? nearest(rounds, state.round === Infinity ? undefined : state.round) : Infinity;
  };
  const show = () => {
    const one = find(state.run);
    const two = find(state.beside);
    const rounds = one.rounds ?? [];
    const place = Math.max(0, Math.min(state.place, rounds.length - 1));
    time.show(rounds, place);
    root.classList.toggle("fl-gan-pair", two !== undefined);
    const other = two?.rounds ? nearest(two.rounds, rounds[place]) : 0;
    showTarget(state.target);
    fill(left, state.run, one, place, classes[state.target]);
    fill(right, state.beside, two, other, classes[state.target]);
    drawCharts([one, two], [place, other]);
    root.dataset.ready = String(one.missing !== "Loading ...");
  };
  const change = (wanted) => {
    const rounds = find(state.run).rounds;
    // The round stays where it was, whatever else is picked; and so does the end.
    if (rounds) state.round = state.place >= rounds.length - 1 ? Infinity : rounds[state.place];
    Object.assign(state, wanted);
    if (!("place" in wanted)) settle();
    show();
  };

  keepKeys(root);
  show();
  return { unmount: time.pause, target: () => state.target };
}

function decodeRecord(record) {
  return Promise.all([decoded(record.private), decoded(record.fakes)]).then(([privateImages, fakes]) => ({
    ...record,
    privateImages,
    fakes,
  }));
}

// One side of the comparison: heading, sentence, private images, fakes.
function pane(parent, className) {
  const el = add(parent, "section", { class: className });
  return {
    el,
    heading: add(el, "h3"),
    sentence: add(el, "p", { "aria-live": "polite" }),
    body: add(el, "div"),
    privateTitle: add(el.lastChild, "p"),
    private: add(el.lastChild, "canvas", { role: "img" }),
    fakesTitle: add(el.lastChild, "p"),
    fakes: add(el.lastChild, "canvas", { role: "img" }),
  };
}

function fill(side, name, record, place, target) {
  side.el.hidden = record === undefined;
  if (record === undefined) return;
  side.heading.textContent = name;
  side.body.hidden = !record.rounds;
  side.sentence.textContent = record.missing ?? record.sentences[place];
  if (!record.rounds) return;
  side.privateTitle.textContent = record.private_title;
  side.fakesTitle.textContent = record.fakes_title;
  draw(side.private, record.privateImages, record.side, 0, `private images of the class ${target}`);
  draw(side.fakes, record.fakes, record.side, place, `fakes of the class ${target}. ${record.sentences[place]}`);
}

// Returns how to show records and a place in each. Charts are drawn when the records are others; else the marks move.
function charts(parent) {
  let [drawn, moves] = [[], []];
  return (records, places) => {
    const sides = [0, 1].filter((side) => records[side]?.rounds);
    const chart = ([column, name, highest]) => {
      const series = sides.map((side) => ({ side, rounds: records[side].rounds, values: records[side].metrics[column] }));
      const top = Math.max(highest, ...series.flatMap(({ values }) => values)); // early fakes can be very diverse
      return drawChart(parent, name, top, series, records[sides[0]].anchors[column] ?? []);
    };
    const measured = ([column]) => sides.every((side) => records[side].metrics[column]);
    if (records.some((record, side) => record !== drawn[side])) {
      parent.replaceChildren();
      [drawn, moves] = [records, sides.length ? CHARTS.filter(measured).map(chart) : []];
    }
    moves.forEach((move) => move(sides.map((side) => places[side])));
  };
}

// Which class the attacker lacks: a button for each, or a list where they are many. Returns how to show another choice.
function picker(parent, classes, offered, onChange) {
  const legend = "the attacker lacks";
  if (offered.length > MOST_BUTTONS) {
    const list = select(parent, legend, onChange);
    offered.forEach((target) => add(list, "option", { value: target }, classes[target]));
    return (target) => (list.value = target);
  }
  const group = `fl-gan-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
  const buttons = add(parent, "fieldset");
  add(buttons, "legend", {}, legend);
  const radios = offered.map((target) => {
    const name = classes[target];
    const label = add(buttons, "label");
    const radio = add(label, "input", { type: "radio", name: group, value: target, "aria-label": `class ${name}` });
    radio.addEventListener("change", () => onChange(radio.value));
    add(label, "span", { "aria-hidden": "true" }, name);
    return radio;
  });
  return (target) => radios.forEach((radio) => (radio.checked = radio.value === target));
}

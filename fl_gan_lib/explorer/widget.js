// In a notebook: the explorer with its live attack, or a pad with one.

export default {
  render: ({ model, el }) => (model.get("index").classes ? renderExplorer(model, el) : renderSecret(model, el)),
};

function renderExplorer(model, el) {
  const index = model.get("index");
  const first = model.get("first");
  const waiting = new Map();
  const fetchRecord = (run, target) =>
    new Promise((resolve) => {
      if (run === index.runs[0]) return resolve(first[target]);
      waiting.set(`${run}/${target}`, resolve);
      model.send({ kind: "load", run, target });
    });
  const arrive = ({ kind, run, target, record }) => kind === "record" && waiting.get(`${run}/${target}`)?.(record);
  model.on("msg:custom", arrive);
  const explorer = mountExplorer(el, index, fetchRecord);
  const removeStandIn = () => {
    if (!el.isConnected) return requestAnimationFrame(removeStandIn); // Jupyter puts it into its page later
    el.closest(".jp-OutputArea, .output")?.querySelectorAll(".fl-gan-page").forEach((page) => page.remove());
  };
  removeStandIn();
  const unmount = model.get("can_train")
    ? renderLive(model, el, () => ({ target: explorer.target() }), () => `Start a live attack on ${index.classes[explorer.target()]}`)
    : () => {};
  return () => {
    model.off("msg:custom", arrive);
    explorer.unmount();
    unmount();
  };
}

function renderSecret(model, el) {
  const send = (drawings) => model.send({ kind: "drawings", drawings: packed(drawings) });
  const pad = mountPad(add(el, "div", { class: "fl-gan" }), send);
  const what = () => {
    pad.keep();
    return {};
  };
  return renderLive(model, el, what, () => "Start the attack on my secret");
}

function renderLive(model, el, what, label) {
  const controls = { start: () => model.send({ kind: "start", ...what() }), stop: () => model.send({ kind: "stop" }) };
  const live = mountLive(el, controls);
  const offer = () => live.offer(label());
  const news = ({ kind, part }) => kind === "news" && live.tell(part);
  el.addEventListener("change", offer);
  model.on("msg:custom", news);
  offer();
  model.send({ kind: "look" });
  return () => {
    model.off("msg:custom", news);
    live.unmount();
  };
}

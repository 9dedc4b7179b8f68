// A live attack, as it grows: what all viewers of a page see, or a notebook alone.

// `controls`: null for those who only look, or {start, stop}; `start` is null where there is nothing to choose. Returns how to show an attack, and its news:
// `attack`: {title, rounds, round, running, message, private, frames}; `news`: the same names, what has changed, and
// perhaps one new `frame`: {round, png, side, probe, sentence}.
function mountLive(el, controls) {
  const root = add(el, "div", { class: "fl-gan fl-gan-live" });
  const row = add(root, "div", { class: "fl-gan-row" });
  const start = controls?.start && button(row, "", controls.start);
  const stop = controls && button(row, "■ Stop", controls.stop);
  const bar = add(row, "progress", { "aria-label": "progress of the live attack" });
  const status = add(row, "output", { "aria-live": "off" });
  const body = add(root, "div", { class: "fl-gan-body" });
  const section = add(body, "section", { class: "fl-gan-first" });
  const heading = add(section, "h3");
  const sentence = add(section, "p", { "aria-live": "polite" });
  const privateTitle = add(section, "p");
  const privateImages = add(section, "canvas", { role: "img" });
  const fakesTitle = add(section, "p", {}, "The attacker's fakes. It has no image of this class.");
  const fakes = add(section, "canvas", { role: "img" });
  const time = timeline(section, (place) => {
    follow = place === attack.frames.length - 1;
    at = place;
    show();
  });
  const charts = add(body, "div", { class: "fl-gan-charts" });
  let attack = { frames: [], running: false, message: "" };
  let [at, follow, label] = [0, true, ""];

  const show = () => {
    const { frames, rounds, round, running, message, title } = attack;
    if (start) Object.assign(start, { textContent: label, disabled: running });
    if (stop) stop.disabled = !running;
    bar.hidden = !running;
    bar.max = rounds || 1;
    if (round) bar.value = round;
    else bar.removeAttribute("value");
    status.textContent = message;
    body.hidden = !frames.length && !attack.private;
    heading.textContent = title ?? "";
    privateTitle.hidden = privateImages.hidden = !attack.privateImages;
    if (attack.privateImages) {
      privateTitle.textContent = attack.private_title;
      draw(privateImages, attack.privateImages, attack.side, 0, attack.private_title);
    }
    const known = frames.length > 0;
    fakesTitle.hidden = fakes.hidden = !known;
    time.show(frames.map((frame) => frame.round), at, rounds);
    charts.replaceChildren();
    if (!known) return;
    const frame = frames[at];
    sentence.textContent = frame.sentence;
    draw(fakes, frame.picture, frame.side, 0, `fakes. ${frame.sentence}`);
    const values = frames.map((one) => one.probe);
    if (values.every((value) => value === null)) return;
    const series = [{ side: 0, rounds: frames.map((one) => one.round), values }];
    drawChart(charts, "probe", 1.05, series, attack.anchors ?? [])([at]);
  };
  const arrive = async (part) => {
    const { frames, frame, ...rest } = part;
    const pictures = [...(frames ?? []), ...(frame ? [frame] : [])];
    const unreadable = () => null; // some browsers refuse a picture now and then
    await Promise.all(pictures.map(async (one) => (one.picture = await decoded(one.png).catch(unreadable))));
    if (rest.private) rest.privateImages = await decoded(rest.private).catch(unreadable);
    if (frames) {
      time.pause();
      attack = { ...rest, frames: frames.filter((one) => one.picture) };
      follow = true;
    } else Object.assign(attack, rest);
    if (frame?.picture && attack.frames.every((one) => one.round < frame.round)) attack.frames.push(frame);
    if (follow) at = Math.max(0, attack.frames.length - 1);
    show();
  };
  let queue = Promise.resolve(); // pictures take their time, and news must not overtake each other
  keepKeys(root);
  show();
  return {
    tell: (part) => (queue = queue.then(() => arrive(part)).catch(console.warn)),
    offer: (text) => {
      label = text;
      show();
    },
    unmount: time.pause,
  };
}

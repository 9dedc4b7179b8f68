// A pad to draw a symbol on, again and again, with a finger, a pen or a mouse.

const [SIDE, BOX, PEN, FINE] = [28, 20, 2.4, 8]; // pixels: of a picture, of its symbol, of the pen; and how fine it is drawn
const [FEWEST, MOST] = [8, 20]; // drawings
const FEWEST_PIXELS = 10; // with less ink than that it is a dot

// As MNIST's digits are centred and scaled: the longer side of the symbol has 20 pixels, and its centre of mass is in the
// middle of 28 x 28. `strokes`: lists of points [x, y]. Returns 784 grey values, or null for an empty drawing.
function normalise(strokes) {
  const points = strokes.flat();
  if (!points.length) return null;
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  const [left, top] = [Math.min(...xs), Math.min(...ys)];
  const size = Math.max(Math.max(...xs) - left, Math.max(...ys) - top);
  const scale = size ? (BOX - PEN) / size : 0;
  const scaled = strokes.map((stroke) => stroke.map(([x, y]) => [(x - left) * scale, (y - top) * scale]));
  const grey = rasterise(scaled, [SIDE / 4, SIDE / 4]); // somewhere inside, to be weighed
  const [x, y] = centreOfMass(grey);
  const middle = (SIDE - 1) / 2;
  return rasterise(scaled, [SIDE / 4 + middle - x, SIDE / 4 + middle - y]);
}

function rasterise(strokes, [dx, dy]) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE * FINE;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  Object.assign(context, { lineWidth: PEN * FINE, lineCap: "round", lineJoin: "round" });
  for (const stroke of strokes) trace(context, stroke.map(([x, y]) => [(x + dx) * FINE, (y + dy) * FINE]));
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const grey = new Uint8Array(SIDE * SIDE);
  for (let row = 0; row < SIDE; row++) {
    for (let column = 0; column < SIDE; column++) {
      let sum = 0;
      for (let i = 0; i < FINE; i++) {
        for (let j = 0; j < FINE; j++) sum += data[4 * ((row * FINE + i) * SIDE * FINE + column * FINE + j) + 3];
      }
      grey[row * SIDE + column] = Math.round(sum / (FINE * FINE));
    }
  }
  return grey;
}

function trace(context, points) {
  context.beginPath();
  context.moveTo(...points[0]);
  for (const point of points.length > 1 ? points.slice(1) : points) context.lineTo(...point);
  context.stroke();
}

function centreOfMass(grey) {
  let [mass, x, y] = [0, 0, 0];
  grey.forEach((value, place) => {
    mass += value;
    x += value * (place % SIDE);
    y += value * Math.floor(place / SIDE);
  });
  return [x / mass, y / mass];
}

// What speaks against these drawings (arrays of 784 grey values); empty if nothing does.
function complaint(pictures) {
  if (pictures.length < FEWEST) return `Draw ${FEWEST - pictures.length} more of the same symbol.`;
  const first = String(pictures[0]);
  if (pictures.every((one) => String(one) === first)) return "All drawings are the same: draw the symbol anew.";
  return "";
}

// Returns how to ask for the drawings, and to be told of changes by `onChange`.
function mountPad(el, onChange) {
  const root = add(el, "div", { class: "fl-gan-pad" });
  const canvas = add(root, "canvas", { width: 280, height: 280, role: "img", "aria-label": "pad to draw on" });
  const row = add(root, "div", { class: "fl-gan-row" });
  const next = button(row, "✓ Next one", keep);
  const undo = button(row, "↶ Undo", takeBack);
  const clear = button(row, "Clear all", () => reset());
  const status = add(root, "p", { "aria-live": "polite" });
  const previews = add(root, "div", { class: "fl-gan-previews" });
  const context = canvas.getContext("2d");
  let [strokes, drawings] = [[], []];

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
  };
  let active = null; // one pointer draws at a time: a palm or a second finger does not
  canvas.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    if (active || event.button) return;
    active = { id: event.pointerId, stroke: [place(event)] };
    canvas.setPointerCapture(event.pointerId);
    strokes.push(active.stroke);
    paint();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (active?.id !== event.pointerId) return;
    const moves = event.getCoalescedEvents?.() ?? [];
    active.stroke.push(...(moves.length ? moves : [event]).map(place));
    paint();
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    canvas.addEventListener(end, (event) => active?.id === event.pointerId && (active = null));
  }
  canvas.addEventListener("touchmove", (event) => event.preventDefault(), { passive: false }); // or an iPad loses strokes

  // Whether what is on the pad is a drawing now; an empty pad is fine, too.
  function keep() {
    const picture = normalise(strokes);
    if (!picture || drawings.length >= MOST) return true;
    if (picture.filter((value) => value > 127).length < FEWEST_PIXELS) {
      status.textContent = "That is a dot. Draw a symbol.";
      return false;
    }
    drawings.push(picture);
    change([], drawings);
    return true;
  }
  function takeBack() {
    if (strokes.length) change(strokes.slice(0, -1), drawings);
    else change([], drawings.slice(0, -1));
  }
  function reset() {
    change([], []);
  }
  function change(...both) {
    [strokes, drawings] = both;
    active = null;
    show();
    onChange(drawings);
  }
  function paint() {
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    Object.assign(context, { strokeStyle: "#fff", lineWidth: 24, lineCap: "round", lineJoin: "round" });
    strokes.forEach((stroke) => trace(context, stroke));
    if (!strokes.length) {
      Object.assign(context, { fillStyle: "#999", font: "22px system-ui, sans-serif", textAlign: "center" });
      context.fillText("draw here", canvas.width / 2, canvas.height / 2);
    }
    next.disabled = !strokes.length || drawings.length >= MOST;
    undo.disabled = clear.disabled = !strokes.length && !drawings.length;
  }
  function show() {
    paint();
    const full = drawings.length >= MOST ? ` That is the most.` : "";
    const ask = complaint(drawings) || `${drawings.length} drawings.${full}`;
    const first = `Draw a symbol once, and press Next one. Do this ${FEWEST} to ${MOST} times.`;
    status.textContent = drawings.length ? ask : first;
    previews.replaceChildren();
    drawings.forEach((picture, number) => {
      const label = `drawing ${number + 1}, as the model sees it`;
      const small = add(previews, "canvas", { width: SIDE, height: SIDE, role: "img", "aria-label": label });
      const image = new ImageData(SIDE, SIDE);
      picture.forEach((value, pixel) => image.data.set([value, value, value, 255], 4 * pixel));
      small.getContext("2d").putImageData(image, 0, 0);
    });
  }
  show();
  return { drawings: () => drawings, keep, reset };
}

// 784 bytes a drawing, in base64.
function packed(drawings) {
  const bytes = drawings.flatMap((picture) => [...picture]);
  return btoa(bytes.map((value) => String.fromCharCode(value)).join(""));
}

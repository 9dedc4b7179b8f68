// The page of its own: from a folder or any web server, and with more to do where `fl_gan_lib demo` serves it.

const waiting = new Map();

// Each file of a record calls this. (A file that is opened from a folder may load scripts, and nothing else.)
window.flGanRecord = (run, target, record) => waiting.get(`${run}/${target}`)?.(record);

function fetchRecord(run, target) {
  return new Promise((resolve, reject) => {
    waiting.set(`${run}/${target}`, resolve);
    const script = add(document.head, "script", { src: `runs/${run.replaceAll(" ", "_")}/${target}.js` });
    script.addEventListener("error", () => reject(new Error("its file did not come")));
    script.addEventListener("load", () => script.remove());
  });
}

const byId = (id) => document.getElementById(id);
const { other } = window.flGanIndex;
const [address, words] = other === "people" ? ["people/index.html", "Attacks on people"] : ["../index.html", "Attacks on digits"];
if (other) add(byId("other"), "a", { href: address }, words);
byId("no-server").hidden = other === "digits"; // symbols are drawn beside the digits
const explorer = mountExplorer(byId("explorer"), window.flGanIndex, fetchRecord);
if (document.querySelector("meta[name=fl-gan-server]")) mountClass();

// The class: everybody sees the live attack and the names of those who have handed something in. The address of the
// teacher ends in #teacher=..., that of the others in #class=... On a projector all could read it, so it is taken out.
function mountClass() {
  if (/^#(teacher|class)=/.test(location.hash)) {
    sessionStorage.setItem("fl-gan", location.hash.slice(1));
    history.replaceState(null, "", location.pathname);
  }
  window.addEventListener("hashchange", () => location.reload());
  const tokens = new URLSearchParams(sessionStorage.getItem("fl-gan") ?? "");
  const token = tokens.get("teacher") ?? tokens.get("class") ?? "";
  const [words, drawWords] = [byId("live-words"), byId("hand-in-words")];
  let [live, teaches] = [null, null];

  // What the server says to it: {ok, text}.
  const post = async (where, message) => {
    try {
      const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token}` };
      const answer = await fetch(where, { method: "POST", headers, body: JSON.stringify(message) });
      return { ok: answer.ok, text: (await answer.text()) || (answer.ok ? "" : `The server refused it (${answer.status}).`) };
    } catch {
      return { ok: false, text: "The server does not answer. Is the network there?" };
    }
  };
  const teach = async (message) => (words.textContent = (await post("teach", message)).text);

  const listen = () => {
    const events = new EventSource("events");
    events.onmessage = ({ data }) => tell(JSON.parse(data));
    events.onerror = () => {
      words.textContent = "The connection is lost. Trying again ...";
      if (events.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
    };
  };
  const tell = ({ hello, news, secrets, revealed }) => {
    if (hello) welcome(hello);
    if (news) live.tell(news);
    if (secrets) list(secrets);
    if (revealed !== undefined) reveal(revealed);
  };
  const welcome = ({ anybody_teaches }) => {
    words.textContent = ""; // the connection is there
    teaches = anybody_teaches || tokens.has("teacher");
    if (live) return;
    const target = () => explorer.target();
    const digits = window.flGanIndex.classes.join("") === "0123456789"; // the server attacks those of mnist-5k
    const start = digits ? () => teach({ do: "start", target: target() }) : null;
    const controls = { start, stop: () => teach({ do: "stop" }) };
    live = mountLive(byId("live"), teaches ? controls : null);
    const offer = () => live.offer(`Start a live attack on ${window.flGanIndex.classes[target()]}`);
    byId("explorer").addEventListener("change", offer);
    offer();
    byId("class").hidden = false;
    byId("no-server").hidden = true;
    byId("hand-in").hidden = byId("to-hand-in").hidden = !(teaches || tokens.has("class"));
    byId("invite-row").hidden = !teaches;
  };

  const list = (secrets) => {
    const items = byId("secrets");
    items.replaceChildren();
    byId("secrets-title").hidden = !secrets.length;
    for (const { id, nickname, number } of secrets) {
      const item = add(items, "li", {}, `${nickname} (${number} drawings) `);
      if (!teaches) continue;
      button(item, "▶ Attack", () => teach({ do: "start", secret: id }), { "aria-label": `Attack ${nickname}` });
      button(item, "Drop", () => teach({ do: "drop", secret: id }), { "aria-label": `Drop ${nickname}` });
    }
  };
  const revealButton = button(byId("reveal-row"), "Reveal the drawings", () => teach({ do: "reveal" }));
  const saveButton = button(byId("reveal-row"), "Save both pictures", () =>
    save([byId("revealed-drawings"), ...byId("live").querySelectorAll("canvas:not([hidden])")]),
  );
  const dropButton = button(byId("reveal-row"), "Drop this secret", () => teach({ do: "drop" }));
  // `png`: the drawings; false, if they can be revealed; null, if there are none.
  const reveal = async (png) => {
    revealButton.hidden = !teaches || png !== false;
    byId("revealed").hidden = !png;
    saveButton.hidden = !teaches || !png;
    dropButton.hidden = !teaches || png === null;
    if (png) draw(byId("revealed-drawings"), await decoded(png), SIDE, 0, "the drawings that nobody but their owner had seen");
  };

  const invitation = byId("invite");
  invitation.addEventListener("click", () => (invitation.hidden = true));
  button(byId("invite-row"), "Invite the class", async () => {
    const { ok, text } = await post("teach", { do: "invite", address: location.origin + location.pathname });
    if (ok) {
      const { address, code } = JSON.parse(text);
      invitation.querySelector("img").src = code;
      invitation.querySelector("figcaption").textContent = `${address} (click to hide it)`;
    } else words.textContent = text;
    invitation.hidden = !ok;
  });

  button(byId("invite-row"), "Start over", () => {
    invitation.hidden = true; // it holds no longer
    teach({ do: "start over" });
  });

  button(byId("to-hand-in"), "Draw your secret", () => byId("hand-in").scrollIntoView());
  const nickname = byId("nickname");
  const handIn = byId("hand-in-button");
  const pad = mountPad(byId("pad"), (drawings) => (handIn.disabled = complaint(drawings) !== ""));
  handIn.addEventListener("click", async () => {
    if (!pad.keep()) return;
    handIn.disabled = true; // a second tap would hand in the same again
    const { ok, text } = await post("hand-in", { nickname: nickname.value, drawings: packed(pad.drawings()) });
    drawWords.textContent = text;
    if (ok) pad.reset();
    else handIn.disabled = false;
  });
  listen();
}

// Pictures below each other in one file, which the browser saves where its user wants it.
function save(canvases) {
  const ENLARGED = 4;
  const sheet = document.createElement("canvas");
  sheet.width = ENLARGED * Math.max(...canvases.map(({ width }) => width));
  sheet.height = ENLARGED * canvases.reduce((sum, { height }) => sum + height, 0);
  const context = sheet.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.scale(ENLARGED, ENLARGED);
  let top = 0;
  for (const canvas of canvases) {
    context.drawImage(canvas, 0, top);
    top += canvas.height;
  }
  const link = document.createElement("a");
  Object.assign(link, { href: sheet.toDataURL(), download: "secret.png" }).click();
}

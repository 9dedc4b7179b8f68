// The page of `fl_gan_lib draw`: the pad, and a button that saves.

const [save, words] = ["save", "words"].map((id) => document.getElementById(id));
const pad = mountPad(document.getElementById("pad"), (drawings) => (save.disabled = complaint(drawings) !== ""));

save.addEventListener("click", async () => {
  if (!pad.keep()) return;
  const body = JSON.stringify({ drawings: packed(pad.drawings()) });
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body };
  const answer = await fetch("save", options).catch(() => null);
  words.textContent = answer ? await answer.text() : "Nobody answers: has the command ended?";
  save.disabled = answer?.ok ?? false;
});

// The prompt box: one streamed request at a time to the public images API.

const byId = (id) => document.getElementById(id);
const NUMBERS = ["n", "deadline", "seed", "steps", "guidance", "min_quality"];
const TEXTS = ["prompt", "model", "size", "sampler", "level", "negative_prompt"];
const PARTIALS = 3, SMALL = 256;

let running = null; // AbortController of the request under way
let cards = new Map(); // by request id

function element(name, { text, ...properties } = {}, ...children) {
  const made = document.createElement(name);
  Object.assign(made, properties);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

function wanted(form) {
  const body = { stream: true, partial_images: PARTIALS, progress: true };
  const data = new FormData(form);
  for (const name of TEXTS) if (data.get(name)) body[name] = data.get(name);
  for (const name of NUMBERS) if (data.get(name) !== "") body[name] = Number(data.get(name));
  return body;
}

// -- server-sent events of a POST, which EventSource cannot send ---------------------------------

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").find((line) => line.startsWith("data: "));
      if (data) yield JSON.parse(data.slice(6));
    }
  }
}

// -- cards --------------------------------------------------------------------------------------

function card(id) {
  if (cards.has(id)) return cards.get(id);
  const view = element("div", { className: "view unfinished" });
  const bar = element("progress", {});
  bar.setAttribute("aria-label", "steps done");
  const said = element("p", { text: "waiting" });
  const caption = element("figcaption", {}, said);
  const figure = element("figure", {}, view, bar, caption);
  byId("pictures").append(figure);
  const made = { figure, view, bar, said, caption };
  cards.set(id, made);
  return made;
}

function picture(event) {
  const image = element("img", { alt: byId("prompt").dataset.asked });
  image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth <= SMALL));
  image.src = `data:image/${event.output_format};base64,${event.b64_json}`;
  return image;
}

function show(event) {
  if (event.type === "error") throw new Error(event.error.message);
  const here = card(event.request_id);
  switch (event.type) {
    case "argus.queued":
      here.said.textContent = event.ahead ? `queued behind ${event.ahead}, about ${event.predicted_s.toFixed(1)} s` : `about ${event.predicted_s.toFixed(1)} s`;
      break;
    case "argus.started":
      here.said.textContent = `${event.level} on ${event.node}`;
      break;
    case "argus.step":
      here.bar.max = event.steps;
      here.bar.value = event.step;
      break;
    case "argus.warning":
      here.caption.append(element("p", { className: "failed", text: event.message }));
      break;
    case "image_generation.partial_image":
      here.view.replaceChildren(picture(event));
      break;
    case "image_generation.completed":
      finish(here, event);
  }
}

function finish(here, event) {
  const { argus } = event;
  const image = picture(event);
  here.view.classList.remove("unfinished");
  here.view.replaceChildren(image);
  here.bar.remove();
  const skipped = argus.skipped_steps ? `, ${argus.skipped_steps} left out` : "";
  here.said.textContent = `${argus.level}, ${argus.steps} steps${skipped}, ${argus.total_s.toFixed(2)} s, quality ${+argus.predicted_quality.toFixed(2)}, seed ${argus.seed}`;
  const save = element("a", { text: "Save", href: image.src, download: `argus-${argus.seed}.${event.output_format}` });
  const keep = element("button", { type: "button", text: "Keep the seed" });
  keep.addEventListener("click", () => { byId("seed").value = argus.seed; });
  here.caption.append(element("div", { className: "tools" }, save, keep));
  byId("said").textContent = `A picture is ready: ${here.said.textContent}`;
}

function giveUp(words) {
  for (const { view, bar, said } of cards.values()) {
    if (!bar.isConnected) continue;
    bar.remove();
    view.classList.remove("unfinished");
    said.textContent = words;
  }
}

// -- requests -----------------------------------------------------------------------------------

async function ask(form) {
  const refused = byId("refused");
  refused.hidden = true;
  running?.abort();
  const mine = (running = new AbortController());
  cards = new Map();
  byId("pictures").replaceChildren();
  const body = wanted(form);
  byId("prompt").dataset.asked = body.prompt;
  byId("stop").hidden = false;
  try {
    const response = await fetch("/v1/images/generations", {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
      body: JSON.stringify(body),
      signal: mine.signal,
    });
    if (!response.ok) throw new Error(await reason(response));
    for await (const event of events(response)) if (running === mine) show(event);
    if (running === mine) giveUp("the connection ended");
  } catch (error) {
    if (running !== mine) return;
    giveUp(error.name === "AbortError" ? "stopped" : "failed");
    if (error.name !== "AbortError") {
      refused.textContent = error.message;
      refused.hidden = false;
    }
  } finally {
    if (running === mine) {
      running = null;
      byId("stop").hidden = true;
    }
  }
}

async function reason(response) {
  const problem = await response.json().catch(() => ({}));
  const later = problem.retry_after_s ? ` Come back in ${problem.retry_after_s.toFixed(1)} s.` : "";
  return `${problem.detail || response.statusText}${later}`;
}

// Let the form and its keys work.
export function make() {
  const form = byId("form"), prompt = byId("prompt");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask(form);
  });
  byId("stop").addEventListener("click", () => running?.abort());
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  document.addEventListener("keydown", (event) => {
    const typing = ["INPUT", "TEXTAREA", "SELECT"].includes(document.activeElement?.tagName);
    if (event.key === "Escape") running?.abort();
    if (event.key === "/" && !typing) {
      event.preventDefault();
      prompt.focus();
    }
  });
}

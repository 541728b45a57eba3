// What the cluster is doing: tiles and tables.

const byId = (id) => document.getElementById(id);
const LATELY_S = 30;

function element(name, { text, ...properties } = {}, ...children) {
  const made = document.createElement(name);
  Object.assign(made, properties);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

const percent = (share) => (share === null || Number.isNaN(share) ? "–" : `${Math.round(100 * share)} %`);
const digits = (value, n = 3) => (Number.isFinite(value) ? String(+value.toPrecision(n)) : "–");
const whole = (value) => value.toLocaleString("en-GB");
const seconds = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} s`;

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const unit = value > 0 ? Math.min(units.length - 1, Math.floor(Math.log2(value) / 10)) : 0;
  return `${digits(value / 1024 ** unit)} ${units[unit]}`;
}

function duration(value) {
  if (value < 120) return `${Math.round(value)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  return value < 172800 ? `${Math.round(value / 3600)} h` : `${Math.round(value / 86400)} days`;
}

function tiles(id, pairs) {
  byId(id).replaceChildren(
    ...pairs.map(([name, value]) => element("div", {}, element("dt", { text: name }), element("dd", { text: value })))
  );
}

function bar(value, most, label) {
  const made = element("progress", { value, max: Math.max(most, 1e-9) });
  made.setAttribute("aria-label", label);
  return made;
}

// Rows are replaced as a whole only where something changed, so that selections live.
const last = new Map();
function rows(id, data, make) {
  const key = JSON.stringify(data);
  if (last.get(id) === key) return;
  last.set(id, key);
  byId(id).tBodies[0].replaceChildren(...data.map(make));
}

const cell = (text, className = "") => element("td", { text, className });
const number = (text) => cell(text, "number");

function used(value, most, what) {
  return element("td", {}, element("span", { text: `${value} of ${most}` }), bar(value, most, what));
}

function nodeRow(node) {
  const name = element("th", { scope: "row" }, element("span", { text: node.name }));
  const variants = element("td", { className: "wrap" });
  node.variants.forEach((variant, i) => {
    const here = node.resident.includes(variant);
    variants.append(i ? ", " : "", element("span", { text: here ? variant : `${variant} (parked)`, className: here ? "" : "parked" }));
  });
  const about = element("td", {}, element("span", { text: node.state }), element("span", { className: "quiet", text: node.device }));
  return element(
    "tr", {}, name, about,
    used(node.lanes, node.maxLanes, `lanes of ${node.name} in use`),
    used(node.slotsUsed, node.slots, `slots of ${node.name} in use`),
    number(whole(node.waiting)), number(node.backlog), number(node.slowness), variants
  );
}

function nodesOf(status) {
  return status.nodes.map(({ hello, heartbeat, ...node }) => ({
    name: hello.node,
    state: node.draining ? "draining" : "serving",
    device: hello.device_name || hello.device,
    lanes: heartbeat.lanes,
    maxLanes: hello.max_lanes,
    slotsUsed: Math.max(0, hello.slots - heartbeat.slots_free),
    slots: hello.slots,
    waiting: heartbeat.waiting,
    backlog: seconds(node.backlog_s),
    slowness: heartbeat.slowness ? `${heartbeat.slowness.toFixed(1)}×` : "–",
    variants: hello.variants.map((resident) => resident.variant.name),
    resident: heartbeat.resident,
  }));
}

function levelRow(level) {
  const row = element(
    "tr", {}, element("th", { scope: "row", text: level.name }), cell(level.variant),
    number(level.quality.toFixed(2)), number(percent(level.steps_fraction * (1 - level.skip_fraction))),
    number(whole(level.answered)), element("td", {}, bar(level.answered, level.all, `share of ${level.name}`))
  );
  if (!level.answered) row.className = "unused";
  return row;
}

function tierRow({ node, tier }) {
  const space = element("td", {});
  if (tier.bytes_budget) {
    space.append(`${bytes(tier.bytes_used)} of ${bytes(tier.bytes_budget)}`, bar(tier.bytes_used, tier.bytes_budget, `bytes of ${tier.tier} on ${node}`));
  } else space.append("–");
  return element(
    "tr", {}, element("th", { scope: "row", text: node }), cell(tier.tier), number(whole(tier.entries)), space,
    number(whole(tier.hits)), number(whole(tier.misses)), number(whole(tier.evicted))
  );
}

function now(status, history) {
  const from = Date.now() - 1000 * LATELY_S;
  const lately = history.filter((sample) => sample.at > from);
  const mean = (values) => (values.length ? values.reduce((a, b) => a + b, 0) / values.length : NaN);
  const known = (name) => mean(lately.map((s) => s[name]).filter((v) => v !== null));
  const lanes = status.nodes.reduce((sum, node) => sum + node.heartbeat.lanes, 0);
  const most = status.nodes.reduce((sum, node) => sum + node.hello.max_lanes, 0);
  tiles("now", [
    ["In flight", `${status.in_flight} of ${status.capacity}`],
    ["Queued", whole(status.queued)],
    ["Lanes in use", `${lanes} of ${most}`],
    [`Goodput, ${LATELY_S} s`, Number.isNaN(known("on_time_s")) ? "–" : `${digits(known("on_time_s"), 2)} /s`],
    [`On time, ${LATELY_S} s`, percent(known("on_time"))],
    [`Quality, ${LATELY_S} s`, Number.isNaN(known("quality")) ? "–" : known("quality").toFixed(2)],
  ]);
}

function cache(status) {
  byId("cache-section").hidden = !status.cache;
  if (!status.cache) return;
  const { cache, counters } = status;
  tiles("cache", [
    ["Entries", whole(cache.entries)],
    ["Look-ups", whole(cache.lookups)],
    ["Near enough", percent(cache.lookups ? cache.near / cache.lookups : null)],
    ["Reused", whole(counters.reused)],
    ["State missed", whole(counters.state_misses)],
    ["Steps saved", whole(counters.steps_saved)],
    ...cache.fetches.map((f) => [`Fetch, ${f.tier}`, `${digits(1000 * f.p50_s, 2)} ms`]),
  ]);
  rows("tiers", status.nodes.flatMap(({ hello, heartbeat }) => heartbeat.cache.map((tier) => ({ node: hello.node, tier }))), tierRow);
}

// Whatever figures a plan has, by their names; a price among them.
function plan(status) {
  byId("plan-section").hidden = !status.plan;
  if (!status.plan) return;
  const figures = Object.entries(status.plan).filter(([, value]) => ["number", "string", "boolean"].includes(typeof value));
  tiles("plan", figures.map(([name, value]) => [name.replaceAll("_", " "), typeof value === "number" ? digits(value) : String(value)]));
}

function choices(id, first, names) {
  const select = byId(id);
  if (last.get(id) === names.join()) return;
  last.set(id, names.join());
  const chosen = select.value;
  select.replaceChildren(element("option", { value: "", text: first }), ...names.map((name) => element("option", { value: name, text: name })));
  select.value = names.includes(chosen) ? chosen : "";
}

// Show a message of /api/events; `history` are the samples so far.
export function shown({ reachable, error, status }, history) {
  const nodes = status ? status.nodes.filter((node) => !node.draining).length : 0;
  const health = byId("health");
  const said = !reachable ? "coordinator not reached" : nodes ? `${nodes} ${nodes === 1 ? "node" : "nodes"} serving` : "no node serves";
  if (health.textContent !== said) health.textContent = said;
  health.className = `chip ${reachable && nodes ? "good" : "bad"}`;
  const trouble = byId("trouble");
  trouble.hidden = Boolean(reachable);
  if (!reachable && trouble.textContent !== error) trouble.textContent = error;
  if (!status) return;
  byId("version").textContent = `argus ${status.argus_version}, up ${duration(status.uptime_s)}`;
  now(status, history);
  rows("nodes", nodesOf(status), nodeRow);
  const all = status.levels.reduce((sum, level) => sum + level.answered, 0);
  rows("levels", status.levels.map((level) => ({ ...level, all })), levelRow);
  cache(status);
  plan(status);
  const c = status.counters;
  tiles("counts", [
    ["Accepted", whole(c.accepted)], ["Answered", whole(c.answered)], ["On time", whole(c.on_time)],
    ["Refused", whole(c.refused)], ["Cancelled", whole(c.cancelled)], ["Failed", whole(c.failed)],
    ["Replayed", whole(c.replayed)],
  ]);
  choices("model", "Argus chooses", status.variants.map((variant) => variant.name));
  choices("sampler", "default", [...new Set(status.variants.flatMap((variant) => variant.samplers))]);
  choices("level", "Argus chooses", status.levels.map((level) => level.name));
}

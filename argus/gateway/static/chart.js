// Lines over time in SVG. Times are ages in seconds, the newest at the right.

const LEFT = 36, RIGHT = 8, TOP = 8, BOTTOM = 18;
const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// The least of 1, 2, 5 times a power of ten that is at least `value`.
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= value * 0.999);
}

function path(points, x, y) {
  let d = "", pen = false;
  for (const [age, value] of points) {
    if (value === null) { pen = false; continue; }
    d += `${pen ? "L" : "M"}${x(age).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = true;
  }
  return d;
}

// Points without a neighbour, which no line would show.
function alone(points) {
  return points.filter(([, value], i) => value !== null && (points[i - 1]?.[1] ?? null) === null && (points[i + 1]?.[1] ?? null) === null);
}

// Draw `series`, each {name, label, points: [[age, value or null], …]}, over the last `span` seconds.
export function draw(svg, series, { span, top, format }) {
  const width = svg.clientWidth || 600, height = svg.clientHeight || 130;
  const x = (age) => LEFT + (width - LEFT - RIGHT) * (1 - age / span);
  const y = (value) => TOP + (height - TOP - BOTTOM) * (1 - Math.min(value, top) / top);
  const parts = [];
  for (const share of [0, 0.5, 1]) {
    const at = y(top * share);
    parts.push(element("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
    parts.push(element("text", { x: LEFT - 6, y: at + 4, "text-anchor": "end" }, format(top * share)));
  }
  const every = [15, 30, 60, 120, 300].find((s) => span / s <= 6) || 300;
  for (let age = 0; age <= span; age += every) {
    const label = age === 0 ? "now" : age < 120 && every < 60 ? `−${age} s` : `−${+(age / 60).toFixed(1)} min`;
    const anchor = age === 0 ? "end" : "middle";
    if (x(age) > LEFT + 12) parts.push(element("text", { x: x(age), y: height - 4, "text-anchor": anchor }, label));
  }
  for (const { name, points } of series) {
    parts.push(element("path", { class: name, d: path(points, x, y) }));
    for (const [age, value] of alone(points)) {
      parts.push(element("circle", { class: name, cx: x(age), cy: y(value), r: name === series[0].name ? 3.5 : 2 }));
    }
  }
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(...parts);
  const last = series.map(({ label, points }) => {
    const known = points.filter(([, value]) => value !== null).at(-1);
    return `${label} ${known ? format(known[1]) : "unknown"}`;
  });
  svg.setAttribute("aria-label", `over the last ${Math.round(span / 60)} minutes; last: ${last.join(", ")}`);
}

/** Many dimensions on a plane: the two principal components, by power iteration. */

/** Steps of each component; the picture does not change after so many. */
const STEPS = 24;

/**
 * @param {number[][]} rows vectors of one length
 * @returns {{ x: number, y: number }[]} each between 0 and 1
 */
export function project(rows) {
  const width = rows[0]?.length ?? 0;
  const mean = new Float64Array(width);
  for (const row of rows) row.forEach((value, at) => { mean[at] = (mean[at] ?? 0) + value / rows.length; });
  const centred = rows.map((row) => Float64Array.from(row, (value, at) => value - (mean[at] ?? 0)));
  const first = component(centred, width, null);
  const second = component(centred, width, first);
  const xs = scaled(centred.map((row) => dot(row, first)));
  const ys = scaled(centred.map((row) => dot(row, second)));
  return xs.map((x, at) => ({ x, y: ys[at] ?? 0.5 }));
}

/**
 * @param {Float64Array[]} rows
 * @param {number} width
 * @param {Float64Array | null} other a component that this one stands upright on
 */
function component(rows, width, other) {
  let axis = Float64Array.from({ length: width }, (_, at) => 1 / (at + 1));
  for (let step = 0; step < STEPS; step += 1) {
    const next = new Float64Array(width);
    for (const row of rows) {
      const share = dot(row, axis);
      row.forEach((value, at) => { next[at] = (next[at] ?? 0) + share * value; });
    }
    if (other) {
      const along = dot(next, other);
      other.forEach((value, at) => { next[at] = (next[at] ?? 0) - along * value; });
    }
    const length = Math.sqrt(dot(next, next));
    if (length === 0) return axis;
    axis = next.map((value) => value / length);
  }
  return axis;
}

/**
 * @param {Float64Array} left
 * @param {Float64Array} right
 */
function dot(left, right) {
  let sum = 0;
  left.forEach((value, at) => { sum += value * (right[at] ?? 0); });
  return sum;
}

/** @param {number[]} values */
function scaled(values) {
  const least = Math.min(...values);
  const most = Math.max(...values);
  return values.map((value) => (most > least ? (value - least) / (most - least) : 0.5));
}

/**
 * Entries with the `count` highest scores, in ascending order; of equal scores the earlier entry is taken. NaN counts as the
 * lowest. Linear time on average.
 */
export function topK(scores: Float32Array, count: number): Uint32Array {
  const total = scores.length;
  const k = Math.max(0, Math.min(Math.floor(count), total));
  if (k === total) return Uint32Array.from({ length: total }, (_, i) => i);
  if (k === 0) return new Uint32Array(0);
  const values = new Float32Array(total);
  for (let i = 0; i < total; i++) values[i] = Number.isNaN(scores[i]!) ? Number.NEGATIVE_INFINITY : scores[i]!;
  const threshold = kthGreatest(values.slice(), k);
  let ties = k;
  for (let i = 0; i < total; i++) if (values[i]! > threshold) ties--;
  const out = new Uint32Array(k);
  let n = 0;
  for (let i = 0; n < k; i++) if (values[i]! > threshold || (values[i] === threshold && ties-- > 0)) out[n++] = i;
  return out;
}

/** The k-th greatest value (k from 1), by quickselect; rearranges `values`. */
function kthGreatest(values: Float32Array, k: number): number {
  const goal = k - 1;
  let low = 0;
  let high = values.length - 1;
  while (low < high) {
    const pivot = middle(values[low]!, values[(low + high) >> 1]!, values[high]!);
    let i = low;
    let j = high;
    while (i <= j) {
      while (values[i]! > pivot) i++;
      while (values[j]! < pivot) j--;
      if (i > j) break;
      const value = values[i]!;
      values[i++] = values[j]!;
      values[j--] = value;
    }
    // [low, j] >= pivot, (j, i) = pivot, [i, high] <= pivot
    if (goal <= j) high = j;
    else if (goal >= i) low = i;
    else return pivot;
  }
  return values[goal]!;
}

function middle(a: number, b: number, c: number): number {
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
}

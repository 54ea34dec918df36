/** Groups of vectors around their means. */
export interface Partition {
  /** f64 [width] each. */
  readonly centroids: readonly Float64Array[];
  /** By vector: which centroid is nearest; the first among equals. */
  readonly assignment: Uint32Array;
  /** Sum of squared distances from the nearest centroids. */
  readonly spread: number;
}

const MOST_ROUNDS = 100;

/**
 * k-means by squared Euclidean distance: `restarts` times Lloyd's steps from centroids drawn with weight by distance
 * (k-means++, Arthur and Vassilvitskii 2007) until nothing moves, 100 at most; the partition of least spread. A centroid that
 * loses all its vectors stays where it is.
 * @param count centroids; as many as there are vectors where those are fewer
 * @param random numbers in [0, 1): the same ones give the same partition
 */
export function kMeans(
  vectors: readonly Float32Array[],
  count: number,
  random: () => number,
  restarts = 10,
): Partition {
  if (vectors.length === 0) return { centroids: [], assignment: new Uint32Array(0), spread: 0 };
  const k = Math.min(count, vectors.length);
  let best: Partition | null = null;
  for (let i = 0; i < restarts; i++) {
    const found = lloyd(vectors, draw(vectors, k, random));
    if (!best || found.spread < best.spread) best = found;
  }
  return best!;
}

/** The centroid with the greatest dot product; the first among equals. */
export function nearestByDot(vector: ArrayLike<number>, centroids: readonly Float64Array[]): number {
  let [best, most] = [0, Number.NEGATIVE_INFINITY];
  for (const [j, centroid] of centroids.entries()) {
    const product = centroid.reduce((sum, x, c) => sum + x * vector[c]!, 0);
    if (product > most) [best, most] = [j, product];
  }
  return best;
}

export function squaredDistance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let c = 0; c < a.length; c++) sum += (a[c]! - b[c]!) ** 2;
  return sum;
}

function draw(vectors: readonly Float32Array[], count: number, random: () => number): Float64Array[] {
  const first = Math.floor(random() * vectors.length);
  const centroids = [Float64Array.from(vectors[first]!)];
  const distances = vectors.map(vector => squaredDistance(vector, centroids[0]!));
  while (centroids.length < count) {
    let left = random() * distances.reduce((a, b) => a + b, 0);
    let chosen = distances.findIndex(distance => {
      left -= distance;
      return left < 0;
    });
    // Rounding, or no vector that is not a centroid already.
    if (chosen < 0) chosen = distances.indexOf(Math.max(...distances));
    const centroid = Float64Array.from(vectors[chosen]!);
    centroids.push(centroid);
    for (const [i, vector] of vectors.entries())
      distances[i] = Math.min(distances[i]!, squaredDistance(vector, centroid));
  }
  return centroids;
}

function lloyd(vectors: readonly Float32Array[], centroids: Float64Array[]): Partition {
  const assignment = new Uint32Array(vectors.length);
  for (let round = 0; ; round++) {
    let moved = round === 0;
    let spread = 0;
    for (const [i, vector] of vectors.entries()) {
      let [nearest, least] = [0, Number.POSITIVE_INFINITY];
      for (const [j, centroid] of centroids.entries()) {
        const distance = squaredDistance(vector, centroid);
        if (distance < least) [nearest, least] = [j, distance];
      }
      if (assignment[i] !== nearest) moved = true;
      assignment[i] = nearest;
      spread += least;
    }
    if (!moved || round === MOST_ROUNDS) return { centroids, assignment, spread };
    for (const [j, centroid] of centroids.entries()) {
      const members = vectors.filter((_, i) => assignment[i] === j);
      if (members.length > 0)
        centroids[j] = centroid.map((_, c) => members.reduce((s, m) => s + m[c]!, 0) / members.length);
    }
  }
}

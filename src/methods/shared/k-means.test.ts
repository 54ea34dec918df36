import { describe, expect, test } from 'vitest';
import { plainRandom } from '../testing.ts';
import { kMeans, nearestByDot, squaredDistance } from './k-means.ts';

function blobs(centres: readonly (readonly number[])[], each: number, noise: number, random: () => number) {
  return centres.flatMap(centre =>
    Array.from({ length: each }, () => Float32Array.from(centre, x => x + noise * (random() - 0.5))),
  );
}

describe('k-means', () => {
  test('finds groups that lie apart, whatever the numbers', () => {
    for (const seed of [1, 2, 3, 4, 5]) {
      const random = plainRandom(seed);
      const vectors = blobs(
        [
          [0, 0, 9],
          [9, 0, 0],
          [0, 9, 0],
        ],
        21,
        2,
        random,
      );
      const { assignment, centroids, spread } = kMeans(vectors, 3, random);
      for (const group of [0, 21, 42]) expect(new Set(assignment.slice(group, group + 21)).size).toBe(1);
      expect(new Set(assignment).size).toBe(3);
      const own = vectors.reduce((sum, v, i) => sum + squaredDistance(v, centroids[assignment[i]!]!), 0);
      expect(spread).toBeCloseTo(own, 6);
      for (const [j, centroid] of centroids.entries()) {
        const members = vectors.filter((_, i) => assignment[i] === j);
        for (const [c, x] of centroid.entries())
          expect(x).toBeCloseTo(members.reduce((sum, m) => sum + m[c]!, 0) / members.length, 9);
      }
    }
  });

  test('is settled: every vector is with its nearest centroid', () => {
    const random = plainRandom(9);
    const vectors = Array.from({ length: 65 }, () => Float32Array.from({ length: 5 }, random));
    const { assignment, centroids } = kMeans(vectors, 4, random);
    for (const [i, vector] of vectors.entries()) {
      const distances = centroids.map(centroid => squaredDistance(vector, centroid));
      expect(distances[assignment[i]!]).toBe(Math.min(...distances));
    }
  });

  test('the same numbers give the same partition; fewer vectors than centroids, equal vectors and none are no error', () => {
    const vectors = Array.from({ length: 20 }, (_, i) => Float32Array.of(i, i * i));
    expect(kMeans(vectors, 4, plainRandom(3))).toEqual(kMeans(vectors, 4, plainRandom(3)));
    expect(kMeans(vectors.slice(0, 2), 4, plainRandom(1)).centroids).toHaveLength(2);
    const equal = kMeans([Float32Array.of(1), Float32Array.of(1)], 2, plainRandom(1));
    expect([...equal.assignment]).toEqual([0, 0]);
    expect(equal.spread).toBe(0);
    expect(kMeans([], 3, plainRandom(1)).assignment).toHaveLength(0);
  });

  test('nearest by dot product: the first among equals', () => {
    const centroids = [Float64Array.of(0, 1), Float64Array.of(1, 0), Float64Array.of(1, 0)];
    expect(nearestByDot([2, 1], centroids)).toBe(1);
    expect(nearestByDot([1, 2], centroids)).toBe(0);
  });
});

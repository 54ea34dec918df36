import {
  APPEND_BYTES,
  ATTEND_BYTES,
  COPY_BYTES,
  ENCODE_BYTES,
  GRAM_BYTES,
  JOB_ACTIVE,
  JOB_COUNT,
  JOB_ITEMS,
  JOB_KIND,
  JOB_NEXT,
  JOB_OPEN,
  KIND_APPEND,
  KIND_ATTEND,
  KIND_COPY,
  KIND_ENCODE,
  KIND_GRAM,
  KIND_MERGE,
  KIND_NEAREST,
  KIND_PROJECT,
  KIND_READ,
  KIND_SENSE,
  KIND_SENSE_ROWS,
  MERGE_BYTES,
  NEAREST_BYTES,
  PROJECT_BYTES,
  READ_BYTES,
  SENSE_BYTES,
} from './abi.ts';
import { append } from './append.ts';
import { attend } from './attend.ts';
import { copy } from './copy.ts';
import { encode } from './encode.ts';
import { gram } from './gram.ts';
import { merge } from './merge.ts';
import { nearest } from './nearest.ts';
import { project } from './project.ts';
import { read } from './read.ts';
import { sense } from './sense.ts';
import { senseRows } from './sense-rows.ts';

/** Runs items [from, to) of a list of records of one kind. */
export function run(kind: i32, items: usize, from: i32, to: i32, scratch: usize): void {
  if (kind === KIND_ATTEND) {
    for (let i = from; i < to; i++) attend(items + i * ATTEND_BYTES, scratch);
  } else if (kind === KIND_MERGE) {
    for (let i = from; i < to; i++) merge(items + i * MERGE_BYTES, scratch);
  } else if (kind === KIND_APPEND) {
    for (let i = from; i < to; i++) append(items + i * APPEND_BYTES, scratch);
  } else if (kind === KIND_COPY) {
    for (let i = from; i < to; i++) copy(items + i * COPY_BYTES);
  } else if (kind === KIND_READ) {
    for (let i = from; i < to; i++) read(items + i * READ_BYTES, scratch);
  } else if (kind === KIND_ENCODE) {
    for (let i = from; i < to; i++) encode(items + i * ENCODE_BYTES, scratch);
  } else if (kind === KIND_SENSE_ROWS) {
    for (let i = from; i < to; i++) senseRows(items + i * ATTEND_BYTES, scratch);
  } else if (kind === KIND_SENSE) {
    for (let i = from; i < to; i++) sense(items + i * SENSE_BYTES, scratch);
  } else if (kind === KIND_GRAM) {
    for (let i = from; i < to; i++) gram(items + i * GRAM_BYTES, scratch);
  } else if (kind === KIND_NEAREST) {
    for (let i = from; i < to; i++) nearest(items + i * NEAREST_BYTES, scratch);
  } else if (kind === KIND_PROJECT) {
    for (let i = from; i < to; i++) project(items + i * PROJECT_BYTES, scratch);
  } else {
    unreachable();
  }
}

/** Claims items of an open job, one at a time, until none is left. */
export function work(job: usize, scratch: usize): void {
  if (!ASC_FEATURE_THREADS) return;
  const kind = load<i32>(job, JOB_KIND);
  const count = load<i32>(job, JOB_COUNT);
  const items = load<u32>(job, JOB_ITEMS) as usize;
  for (;;) {
    const i = atomic.add<i32>(job, 1, JOB_NEXT);
    if (i >= count) return;
    run(kind, items, i, i + 1, scratch);
  }
}

/** A helper's visit to whatever job is open; harmless where none is. A trap leaves ACTIVE to the caller. */
export function help(job: usize, scratch: usize): void {
  if (!ASC_FEATURE_THREADS) return;
  atomic.add<i32>(job, 1, JOB_ACTIVE);
  if (atomic.load<i32>(job, JOB_OPEN)) work(job, scratch);
}

import { KvasirError } from '../errors.ts';

/**
 * A tensor and a checked range of its rows.
 * Raises `bad_model_file` for a name that the model has not, `invalid_request` for rows that the tensor has not.
 */
export function rowRange<T extends { rows: number; byteLength: number }>(
  tensors: ReadonlyMap<string, T>,
  name: string,
  from: number,
  to: number | undefined,
): T & { from: number; to: number; rowBytes: number } {
  const tensor = tensors.get(name);
  if (tensor === undefined) {
    throw new KvasirError('bad_model_file', `The model has no tensor "${name}".`, { field: 'name', value: name });
  }
  const end = to ?? tensor.rows;
  if (!Number.isInteger(from) || !Number.isInteger(end) || from < 0 || end < from || end > tensor.rows) {
    throw new KvasirError('invalid_request', `Rows ${from} to ${end} of "${name}", which has ${tensor.rows}.`, {
      field: 'rows',
      value: `${from}..${end}`,
      allowed: `0 to ${tensor.rows}`,
    });
  }
  return { ...tensor, from, to: end, rowBytes: tensor.byteLength / tensor.rows };
}

/**
 * Every request and response body of the server. A field that stands in no schema is refused by name (`unknown field`);
 * one of OpenAI's that has no meaning here yet stands in UNSUPPORTED and is refused with the reason.
 * A field that is null counts as absent.
 */
export * from './request-schemas.ts';
export * from './response-schemas.ts';

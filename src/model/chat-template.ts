import { Template } from '@huggingface/jinja';
import { KvasirError } from '../errors.ts';
import type { ChatMessage, TokenizerSpec } from './types.ts';

/**
 * Renders chats with a model's Jinja template. The template is parsed on the first call.
 * Raises `unsupported` where the model has none, `bad_model_file` where it does not parse,
 * `invalid_request` where the template refuses the messages (roles that do not alternate, say).
 */
export function chatRenderer(
  spec: Pick<TokenizerSpec, 'chatTemplate' | 'bosToken' | 'eosToken'>,
): (messages: readonly ChatMessage[], addGenerationPrompt: boolean) => string {
  let template: Template | undefined;
  return (messages, addGenerationPrompt) => {
    if (spec.chatTemplate === null) {
      throw new KvasirError('unsupported', 'The model has no chat template; give it plain text.', {
        field: 'chat_template',
      });
    }
    template ??= parse(spec.chatTemplate);
    try {
      return template.render({
        messages: messages.map(message => ({ ...message })),
        add_generation_prompt: addGenerationPrompt,
        bos_token: spec.bosToken ?? '',
        eos_token: spec.eosToken ?? '',
      });
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new KvasirError('invalid_request', `The chat template refuses the messages: ${reason}`, {
        field: 'messages',
        cause,
      });
    }
  };
}

function parse(source: string): Template {
  try {
    return new Template(source);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new KvasirError('bad_model_file', `The chat template does not parse: ${reason}`, {
      field: 'chat_template',
      cause,
    });
  }
}

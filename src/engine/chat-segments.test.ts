import { describe, expect, test } from 'vitest';
import { chatRenderer } from '../model/chat-template.ts';
import { renderChat } from './chat-segments.ts';
import type { PromptMessage } from './types.ts';

const CHATML =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
/** Gemma's: trims, has no system message of its own, refuses chats that do not alternate. */
const GEMMA = `{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}{% for message in rest %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\n' + (first if loop.first else '') + (message['content'] | trim) + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}`;
/** Answers end with a token that questions have not; a chat has to have a question; thoughts of earlier answers go. */
const INST =
  "{% if (messages | selectattr('role', 'equalto', 'user') | list | length) == 0 %}{{ raise_exception('no question') }}{% endif %}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'].split('</think>')[-1] + eos_token }}{% else %}{{ '<<' + message['content'] + '>> ' }}{% endif %}{% endfor %}";

const renderer = (chatTemplate: string) => {
  const render = chatRenderer({ chatTemplate, bosToken: '<bos>', eosToken: '</s>' });
  return (messages: readonly PromptMessage[]) => {
    const { text, segments } = renderChat(render, messages);
    return segments.map(({ kind, label, from, to }) => [kind, label, text.slice(from, to)]);
  };
};
const say = (role: string, content: PromptMessage['content']): PromptMessage => ({ role, content });
const CHAT = [say('system', 'Be brief.'), say('user', 'user'), say('assistant', 'ok'), say('user', ' Why? ')];

describe('messages', () => {
  test('each with its marks; the opening of the answer belongs to none', () => {
    expect(renderer(CHATML)(CHAT)).toEqual([
      ['system', 'system', '<|im_start|>system\nBe brief.<|im_end|>\n'],
      ['turn', 'user', '<|im_start|>user\nuser<|im_end|>\n'],
      ['turn', 'assistant', '<|im_start|>assistant\nok<|im_end|>\n'],
      ['turn', 'user', '<|im_start|>user\n Why? <|im_end|>\n'],
    ]);
  });

  test('a template that writes one message into another, and refuses some chats', () => {
    expect(renderer(GEMMA)(CHAT)).toEqual([
      ['system', 'system', '<bos><start_of_turn>user\nBe brief.'],
      ['turn', 'user', '\n\nuser<end_of_turn>\n'],
      ['turn', 'assistant', '<start_of_turn>model\nok<end_of_turn>\n'],
      ['turn', 'user', '<start_of_turn>user\nWhy?<end_of_turn>\n'],
    ]);
    expect(() => renderer(GEMMA)([say('user', 'a'), say('user', 'b')])).toThrow(/alternate/);
  });

  test('marks that differ by role, and text that the template leaves out', () => {
    const chat = [say('system', 'S'), say('user', 'Q'), say('assistant', '<think>x</think>A'), say('user', 'R')];
    expect(renderer(INST)(chat)).toEqual([
      ['system', 'system', '<<S'],
      ['turn', 'user', '>> [INST] Q [/INST]'],
      ['turn', 'assistant', ' A</s>'],
      ['turn', 'user', '[INST] R [/INST]'],
    ]);
  });

  test('an empty one goes with the next', () => {
    expect(renderer(CHATML)([say('user', 'Q'), say('assistant', ''), say('user', 'R')])).toEqual([
      ['turn', 'user', '<|im_start|>user\nQ<|im_end|>\n'],
      ['turn', 'user', '<|im_start|>assistant\n<|im_end|>\n<|im_start|>user\nR<|im_end|>\n'],
    ]);
  });
});

describe('named parts', () => {
  const image = (text: string, label: string) => ({ text, segment: { kind: 'image', label } as const });

  test('are cut out of their turns; white space and marks alone are no turn', () => {
    const content = [{ text: 'Before: ' }, { text: 'see ' }, image('[a]', '1'), { text: '\n' }, image('[b]', '2')];
    expect(renderer(CHATML)([say('user', content), say('user', 'Which?')])).toEqual([
      ['turn', 'user', '<|im_start|>user\nBefore: see '],
      ['image', '1', '[a]'],
      ['image', '2', '[b]'],
      ['turn', 'user', '<|im_start|>user\nWhich?<|im_end|>\n'],
    ]);
    expect(renderer(CHATML)([say('user', [image('[a]', '1'), { text: ' Which?' }])])).toEqual([
      ['image', '1', '[a]'],
      ['turn', 'user', ' Which?<|im_end|>\n'],
    ]);
  });

  test('are clipped where the template trims, and gone where it leaves them out', () => {
    const document = { text: '  A page. \n', segment: { kind: 'document' } as const };
    expect(renderer(GEMMA)([say('user', [document])])).toEqual([['document', undefined, 'A page.']]);
    const thought = [image('<think>x</think>', 'thought'), { text: 'A' }];
    expect(renderer(INST)([say('user', 'Q'), say('assistant', thought)])).toEqual([
      ['turn', 'user', '[INST] Q [/INST]'],
      ['turn', 'assistant', 'A</s>'],
    ]);
  });

  test('a template that changes contents: no segments, and named parts are refused', () => {
    const template = "{% for message in messages %}{{ message['content'] | length }}{% endfor %}";
    expect(renderer(template)([say('user', 'four')])).toEqual([]);
    const named = [say('user', [image('four', '1')])];
    expect(() => renderer(template)(named)).toThrow(
      expect.objectContaining({ code: 'unsupported', field: 'messages' }),
    );
  });

  test('noncharacters in the text are text', () => {
    const chat = [say('user', '\ufdd0' + '3\ufdd0 a')];
    expect(renderer(CHATML)(chat)).toEqual([['turn', 'user', '<|im_start|>user\n\ufdd03\ufdd0 a<|im_end|>\n']]);
  });
});

import type { Draw } from '../../draw.ts';
import type { Question } from '../../tasks/types.ts';
import { pack, spread, turnOf } from '../fill.ts';
import { type ScbenchTask, TURNS } from '../types.ts';

const SURNAMES = [...'王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧'];
const GIVEN = [...'伟芳娜敏静丽强磊军洋勇艳杰娟涛明超霞平刚桂英华玉萍红娥玲芬燕彬鹏飞云雪梅兰竹菊春夏秋冬'];
const CITIES = '北京 上海 广州 成都 杭州 南京 武汉 西安 重庆 天津 苏州 青岛 大连 厦门 昆明 长沙 沈阳 济南'.split(' ');

interface Attribute {
  readonly values: readonly string[];
  say(value: string): string;
  ask(name: string): string;
}

const HOME: Attribute = { values: CITIES, say: v => `住在${v}`, ask: n => `${n}住在哪个城市？` };
const ATTRIBUTES: readonly Attribute[] = [
  {
    values: '老师 医生 司机 厨师 律师 农民 画家 护士 记者 木匠 演员 会计 警察 裁缝'.split(' '),
    say: v => `是一名${v}`,
    ask: n => `${n}的职业是什么？`,
  },
  {
    values: '米饭 面条 饺子 豆腐 苹果 西瓜 牛肉 鱼汤 包子 鸡蛋 葡萄 馒头'.split(' '),
    say: v => `最爱吃${v}`,
    ask: n => `${n}最爱吃什么？`,
  },
  {
    values: '下棋 游泳 唱歌 跳舞 钓鱼 读书 爬山 画画 跑步 书法 摄影 养花'.split(' '),
    say: v => `喜欢${v}`,
    ask: n => `${n}的爱好是什么？`,
  },
];

interface Entry {
  readonly name: string;
  readonly text: string;
  readonly facts: readonly { readonly question: string; readonly value: string }[];
  readonly home: string;
  readonly friend: Entry | null;
}

/** Questions about people in Chinese: four about one fact each, and one about two; the answer is the value alone. */
export const QA_CHN: ScbenchTask = {
  name: 'qa_chn',
  title: 'facts in a chronicle, in Chinese',
  category: 'semantic',
  newTokens: 40,
  able: false,
  generate(draw, tokens, tools) {
    const frame = { open: '阅读下文。\n\n', separator: '\n' };
    // A vocabulary of English spends several tokens on each character.
    const { context, records } = pack(tools, tokens, frame, chronicle(draw, tokens < 900 ? 1 : 3));
    const asked = spread(draw, records.length);
    if (!asked) return null;
    const double = draw.between(0, TURNS - 1);
    const turns = asked.map((index, turn) => {
      const { name, text, friend, facts } = records[index]!;
      const fact = draw.choice(facts);
      const two = turn === double ? friend : null;
      const [question, value] = two ? [`${name}的朋友住在哪个城市？`, two.home] : [fact.question, fact.value];
      return turnOf(tools, context, plain(question, value), {
        scorer: 'characters',
        evidence: two ? [text, two.text] : [text],
        kind: two ? 'two facts' : 'one fact',
      });
    });
    return { context, turns };
  },
};

const plain = (text: string, value: string): Question => ({
  text,
  answer: value,
  lead: '答案是',
  value,
  parts: [value],
});

/** @param most facts beside the home */
function chronicle(draw: Draw, most: number): (before: readonly Entry[]) => Entry {
  const names = new Set<string>();
  const someone = () => draw.choice(SURNAMES) + draw.choice(GIVEN) + draw.choice(GIVEN);
  return before => {
    let name = someone();
    while (names.has(name)) name = someone();
    names.add(name);
    const own = [HOME, ...draw.sample(ATTRIBUTES, draw.between(1, most))].map(attribute => ({
      attribute,
      value: draw.choice(attribute.values),
    }));
    const [friend] = draw.sample(before, 1);
    const said = own.map(({ attribute, value }) => attribute.say(value));
    return {
      name,
      text: `${name}${said.join('，')}${friend ? `，朋友是${friend.name}` : ''}。`,
      facts: own.map(({ attribute, value }) => ({ question: attribute.ask(name), value })),
      home: own[0]!.value,
      friend: friend ?? null,
    };
  };
}

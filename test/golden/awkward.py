"""200 texts on which tokenizers tend to differ. None holds a lone surrogate."""

import random

ZWJ, VS16 = "\u200d", "\ufe0f"

UNICODE = [
    "naïve café résumé Ångström", "e\u0301 versus é", "A\u030a o\u0308 n\u0303 combined", "a" + "\u0301" * 20, "Z̷̧̢̛a̵l̴g̶o̸",
    "Straße GROẞE ﬁ ﬂ ﬀ", "İstanbul ıĞğŞş", "ΑΒΓ αβγ ς σ ώ", "Привет, как дела? Ёлка и ёж", "Їжак, ґанок",
    "नमस्ते दुनिया", "क्षत्रिय ज्ञान", "வணக்கம் உலகம்", "สวัสดีชาวโลก", "ສະບາຍດີ", "မင်္ဂလာပါ", "ខ្ញុំ", "ආයුබෝවන්",
    "გამარჯობა", "Բարեւ", "ሰላም", "ᐊᐃᓄᒃ", "ᠮᠣᠩᠭᠣᠯ", "𐍈𐌰𐌿𐍄𐌰", "𝕳𝖊𝖑𝖑𝖔 𝓌ℴ𝓇𝓁𝒹", "Ａｂｃ１２３ full width", "½ ¾ ⅓ ² ³ ₁₂ Ⅷ ⅸ ①②③",
    "٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९", "一二三百千万", "𝟘𝟙𝟚 𝟎𝟏𝟐", "€ £ ¥ ₿ ₹ ¢ 100%", "← → ↑ ↓ ⇒ ∀x∈ℝ ∃y: x≤y", "™ © ® ℃ № ℹ",
    "“curly” ‘quotes’ „low“ «guillemets»", "em—dash en–dash hy-phen non‑breaking − minus", "ellipsis… and ...",
    "\u00a0non-breaking\u00a0space\u202fnarrow\u2003em\u3000ideographic", "zero\u200bwidth\u200cnon\u200djoiner\u2060word",
    "\ufeffbyte order mark", "soft\u00adhyphen", "line\u2028separator\u2029paragraph", "\u0085next line", "\ufffd replacement \ufffc object",
    "private \ue000 use \U000f0000", "unassigned \u0378 \U000e0fff", "\U0010ffff last", "Ǆ ǅ ǆ title case", "ʰʲʷ modifiers ˈstress",
    "ⒶⒷⒸ 🅰🅱", "ÿþ latin1 ×÷", "mixed кириллица and latin слово",
]  # fmt: skip
CJK = [
    "你好，世界！", "今天天气很好，我们去公园吧。", "こんにちは世界。カタカナとひらがな", "한국어 텍스트입니다", "ㅋㅋㅋ ㅎㅎ", "한글 decomposed",
    "中文and English混在一起123", "𠮷野家 𪚥 rare", "ｶﾀｶﾅ half width ｡｢｣", "「引用」『二重』【括弧】", "日本語のＡＩ：２０２４年１２月", "㍿㌔㊙",
]  # fmt: skip
RIGHT_TO_LEFT = [
    "שלום עולם", "שָׁלוֹם with points", "مرحبا بالعالم", "السَّلَامُ عَلَيْكُمْ", "abc \u202eoverride\u202c done", "\u200fmarks\u200e and \u2067isolates\u2069",
    "فارسی ۱۲۳ می‌خواهم", "اردو ہے",
]  # fmt: skip
EMOJI = [
    "😀😃😄", "👍🏽 👎🏿", f"family 👨{ZWJ}👩{ZWJ}👧{ZWJ}👦", f"🏳{VS16}{ZWJ}🌈 flag", "🇩🇪🇫🇷🇯🇵 flags", f"keycaps 1{VS16}\u20e3 #{VS16}\u20e3", f"❤{VS16} vs ❤",
    f"👩🏾{ZWJ}🚀", f"🧑{ZWJ}🤝{ZWJ}🧑", "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", "a😀b😀c", f"😀{ZWJ}", f"{VS16}", "🫠🪿🩷 new ones",
]  # fmt: skip
WHITESPACE = [
    "", " ", "  ", "   ", "       ", " " * 17, " " * 100, "\t", "\t\t", "\t \t ", "\n", "\n\n", "\n\n\n\n", "\n" * 33, "\r", "\r\n", "\r\n\r\n", "\r\r\n\n\r",
    "line one\r\nline two\r\n", "a\nb\n\nc\n\n\nd", " leading", "  two leading", "trailing ", "trailing  ", "trailing\n", "a  b", "a   b    c     d",
    "\ttab\tseparated\tvalues", "    indented\n        twice\n    back", "mixed \t spaces\n \t and tabs", " \n \n ", "word \n word", "a\n b", "a \nb", "x\u00a0\u00a0y",
    "\x0b\x0c vertical", " .", " ,", "\n.", "  'quoted'", "end.  New", "\u2028\u2028", "tab\tend\t",
]  # fmt: skip
DIGITS = [
    "0", "1234567890", "3.14159265358979", "1,000,000.50", "2024-12-31T23:59:59Z", "+49 (0)30 1234-5678", "0xDEADBEEF 0b1010 0o777", "1e-10 6.02E23",
    "v1.2.3-rc.4", "192.168.0.1:8080", "007 42nd 1st 3rd", "12 345 6 78 9", "9" * 50, "a1b2c3d4", "550e8400-e29b-41d4-a716-446655440000", "1½ cups", "x²+y²=z²",
]  # fmt: skip
CONTRACTIONS = [
    "I'm you're he's we'll they've she'd isn't", "I'M YOU'RE HE'S WE'LL THEY'VE", "don't DON'T Don'T", "it’s they’re we’ll", "'s 't 're 've 'm 'll 'd",
    "'tis o'clock rock'n'roll y'all'd've", "''''", "\"'\"'\"", "users' books", "l'été d'où qu'il",
]  # fmt: skip
CODE = [
    "def f(x: int) -> int:\n    return x ** 2\n", "for (int i = 0; i < n; ++i) { a[i] += b[i]; }", "const f = async ({ a, b }) => a?.b ?? `t${a}`;",
    "SELECT * FROM t WHERE a <> 'b''c' -- comment", "<div class=\"a b\">&nbsp;</div><!-- c -->", "{\"key\": [1, 2.5, null, true], \"π\": \"\\u00e9\"}",
    "#include <stdio.h>\n\n#define A(x) ((x)+1)\n", "\\begin{equation} \\frac{a}{b} \\end{equation}", "https://example.com/path?q=a%20b&c=d#frag", "user.name+tag@example.co.uk",
    "C:\\Windows\\System32\\drivers", "/usr/local/bin:$PATH", "rm -rf ./* && echo \"done\" || exit 1", "\x1b[31mred\x1b[0m", "/* **** */ // ----", "if(a&&b||!c){}", "a->b::c<d>>e",
    "snake_case camelCase PascalCase kebab-case SCREAMING_CASE", "__init__ ___ _a_", "| a | b |\n|---|---|\n| 1 | 2 |", "- [x] done\n- [ ] open\n\n## Heading\n> quote\n",
]  # fmt: skip
SPECIAL = [
    "<|endoftext|>", "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n", "a<|im_end|>b", " <|im_end|> ", "<|im_start|><|im_start|>", "<|im_end", "|im_end|>", "<|IM_END|>",
    "< |im_end| >", "<|pad|><|unknown|>", "<start_of_turn>user\nHi<end_of_turn>\n", "<bos><eos><pad><unk>", "<s></s>[INST]", "<0x0A><0xE4>", "▁ lower one eighth block ▁▁", "Ġbyte level Ċ signs",
]  # fmt: skip
CONTROL = ["\x00", "a\x00b", "\x01\x02\x03", "\x7f\x80\x9f", "bell \x07 backspace \x08", "\x1f unit \x1e record"]
REPEATS = [
    "a" * 64,
    "ab" * 50,
    "!" * 40,
    "." * 33,
    "-" * 80,
    "= " * 30,
    "ha" * 21 + "!",
    "the the the the",
    "A" * 31 + "a" * 33,
    "\\" * 9,
]


def generated(count):
    """Random mixtures of the pieces above, and two long texts; seeded."""
    rng = random.Random(7)
    pool = [
        t for group in (UNICODE, CJK, EMOJI, WHITESPACE, DIGITS, CONTRACTIONS, CODE) for t in group if 0 < len(t) < 40
    ]
    out = ["".join(rng.choice(pool) for _ in range(rng.randrange(2, 5))) for _ in range(count - 2)]
    words = "the cache keeps keys and values of tokens that came before so it need not compute them again".split()
    out.append(" ".join(rng.choice(words) + rng.choice(["", "", "", ",", ".", "\n"]) for _ in range(1200)))
    out.append("".join(rng.choice(pool) for _ in range(120)))
    return out


FIXED = UNICODE + CJK + RIGHT_TO_LEFT + EMOJI + WHITESPACE + DIGITS + CONTRACTIONS + CODE + SPECIAL + CONTROL + REPEATS
TEXTS = FIXED + generated(max(8, 200 - len(FIXED)))
assert len(set(TEXTS)) == len(TEXTS)

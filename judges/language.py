"""The language that a text is written in: by its script, its letters and its most frequent words, without a model."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import islice

_READ = 10_000  # characters
_MOST_LETTERS = 400
_WORDS = 200
_LEAST = 0.4
_LEAST_SHARE = 0.08  # of the words, the least that must speak for a language
_LEAST_LEAD = 1.2  # times what speaks for the next one
_KANA = 0.05  # of the letters, from which on a text with Chinese characters is Japanese
_WORD = re.compile(r"[^\W\d_]+")

_FREQUENT = {
    "en": "the of and to in is that it for was on are as with this be at by from or an have not what which how you your "
    "his can do does if would there who when where why will has their but all write give about me my please "
    "explain good hello list translate summarise summarize following into text most many much some any between",
    "de": "der die das und ist nicht ein eine einen einem zu den dem mit von sich auf für wie was auch es an im ich wir "
    "sie wird sind aus bei nach zum zur oder wenn welche warum kann bitte mir schreibe erkläre über viele hat "
    "haben hallo guten folgenden ihr mein meine meiner drei fasse übersetze ins text zwischen",
    "fr": "le la les des du et est une un que qui dans pour pas sur avec ce cette il elle nous vous sont au aux par ou "
    "mais quel quelle comment pourquoi je ne se de en être moi écris explique ton votre d l qu bonjour combien "
    "résume traduis mon ma mes trois points suivant j y a t",
    "es": "el la los las de y es en que un una por para con no del se al lo como más su qué cómo cuál quién dónde "
    "cuándo son está o si me pero muy fue hay escribe explica sobre entre hola cuántos cuántas tiene tengo mi "
    "tres resume traduce siguiente puntos",
    "pt": "o a os as de e é em que um uma por para com não do da dos das no na se ao mais seu sua como qual quem onde "
    "quando são está ou mas foi você pelo pela escreva explique sobre isso olá quantos quantas tem tenho minha "
    "meu três resuma traduza seguinte pontos",
    "it": "il lo la i gli le di e è in che un una per con non del della dei delle si al alla come più suo sono da nel "
    "nella quale chi dove perché cosa questo ma anche o scrivi spiega mi qual l dell ciao quanti quante ho ha hai "
    "mia mio tre riassumi traduci seguente punti sulla sul",
    "nl": "de het een en is van in dat niet te op voor met zijn aan er wat hoe ook als bij naar door uit die je ik wij "
    "waarom welke kan om worden wordt of maar schrijf leg mij over hallo hoeveel heeft heb mijn drie vat volgende "
    "vertaal punten samen vraag",
    "sv": "och att det som en är på av för med den till inte har jag ett om de vi var vad hur kan från eller men när "
    "vilken varför också sig så skriv förklara mig hej många min mitt tre följande sammanfatta översätt fråga "
    "punkter i",
    "da": "og at det som en er på af for med den til ikke har jeg et om de vi var hvad hvordan kan fra eller men når "
    "hvilken hvorfor også sig så bliver efter mig skriv forklar nogle hej mange min mit tre følgende oversæt "
    "spørgsmål i digt",
    "no": "og at det som en er på av for med den til ikke har jeg et om de vi var hva hvordan kan fra eller men når "
    "hvilken hvorfor også seg så blir etter meg skriv forklar noen hei mange min mitt tre følgende oversett "
    "spørsmål i dikt",
    "fi": "ja on ei se että oli mitä miten kuinka missä kuka miksi tämä myös kun jos mutta hän ovat olla ole voi niin "
    "kuin mikä minä sen sitä tai kirjoita selitä hei minulla kysymys monta seuraava kolme käännä",
    "pl": "i w na z nie to jest się do że co jak o dla od po są przez za jego czy gdzie kto kiedy dlaczego który która "
    "oraz ale być mi napisz wyjaśnij",
    "cs": "a je se na v že to co jak s z do pro ne by jsou kde kdo kdy proč který která nebo ale být jako od za po mi "
    "napiš vysvětli si",
    "hu": "a az és hogy nem is egy van mi hogyan miért hol ki mikor de ha meg volt ez mint csak vagy melyik írj "
    "magyarázd el",
    "ro": "și în de la este un o nu cu pe că din ce cum care pentru sunt mai unde cine când se fi sau dar scrie explică",
    "tr": "ve bir bu da de ne nasıl için ile mi çok daha var olan olarak nedir neden kim nerede hangi değil ama veya "
    "yaz açıkla gibi bana merhaba kaç üç şu özetle çevir soru",
    "id": "yang dan di itu ini dengan untuk tidak dari dalam apa bagaimana akan pada ke adalah saya anda siapa mengapa "
    "kapan atau juga bisa tulis jelaskan",
    "vi": "và của là có không được cho một trong các với những người này đó gì như thế nào tại sao ai khi ở tôi bạn hãy "
    "viết",
}  # fmt: skip
_LETTERS = {
    "de": "ßäöü", "fr": "œùêîûëçéèà", "es": "ñáéíóú", "pt": "ãõçáéíóúê", "it": "ìòèàù", "sv": "åäö", "da": "øæå",
    "no": "øæå", "pl": "łąęśżźćń", "cs": "řůěžčšýáéí", "hu": "őűáéíóöüú", "ro": "țșăţşâî", "tr": "ğışçöü",
    "vi": "ơưđạảấầẩậắằặẹẻẽếềểệỉịọỏốồổộớờởợụủứừửựỳỵỷỹ", "fi": "äö",
}  # fmt: skip
_CYRILLIC = (("be", "ў"), ("uk", "їєґі"), ("mk", "ѓќѕ"), ("sr", "љњћђџј"), ("ru", "ыэё"), ("bg", "ъ"))
_ARABIC = (("ur", "ٹڈڑںےہ"), ("fa", "پچژگکی"))
_BY_SCRIPT = (
    (0x0370, 0x03FF, "el"), (0x0530, 0x058F, "hy"), (0x0590, 0x05FF, "he"), (0x0900, 0x097F, "hi"), (0x0980, 0x09FF, "bn"),
    (0x0A00, 0x0A7F, "pa"), (0x0A80, 0x0AFF, "gu"), (0x0B80, 0x0BFF, "ta"), (0x0C00, 0x0C7F, "te"), (0x0C80, 0x0CFF, "kn"),
    (0x0D00, 0x0D7F, "ml"), (0x0D80, 0x0DFF, "si"), (0x0E00, 0x0E7F, "th"), (0x0E80, 0x0EFF, "lo"), (0x1000, 0x109F, "my"),
    (0x10A0, 0x10FF, "ka"), (0x1200, 0x137F, "am"), (0x1780, 0x17FF, "km"), (0xAC00, 0xD7AF, "ko"),
)  # fmt: skip
_LATIN, _CYRILLIC_SCRIPT, _ARABIC_SCRIPT, _HAN, _KANA_SCRIPT, _OTHER = "latin", "cyrillic", "arabic", "han", "kana", "other"

LANGUAGES = frozenset(
    (*_FREQUENT, *(name for name, _ in _CYRILLIC), *(name for name, _ in _ARABIC), *(name for _, _, name in _BY_SCRIPT))
) | {"ar", "ja", "zh"}
"""The languages that are told apart, as ISO 639-1 names them."""


def _votes() -> dict[str, dict[str, float]]:
    """By word, how much it speaks for each language: a word that several have says less."""
    words = {language: frozenset(text.split()) for language, text in _FREQUENT.items()}
    counts = Counter(word for known in words.values() for word in known)
    votes: dict[str, dict[str, float]] = {}
    for language, known in words.items():
        for word in known:
            votes.setdefault(word, {})[language] = 1.0 / counts[word]
    return votes


_VOTES = _votes()
_LETTER_LANGUAGES = {
    letter: [language for language, letters in _LETTERS.items() if letter in letters]
    for letter in "".join(_LETTERS.values())
}


def language_of(text: str) -> str | None:
    """The language of a text, as ISO 639-1 names it; None where that is unclear, as for code, numbers or a single name.

    Args:
        text: The text; its first 10,000 characters count.
    """
    letters = list(islice(filter(str.isalpha, text[:_READ]), _MOST_LETTERS))
    if not letters:
        return None
    scripts = Counter(map(_script, letters))
    n_kana = scripts.pop(_KANA_SCRIPT, 0)
    scripts[_HAN] += n_kana  # Japanese mixes both
    script, _ = scripts.most_common(1)[0]
    if script == _HAN:
        return "ja" if n_kana >= _KANA * len(letters) else "zh"
    if script == _LATIN:
        return _latin(text[:_READ])
    if script == _CYRILLIC_SCRIPT:
        return _by_letters(letters, _CYRILLIC, "ru")
    if script == _ARABIC_SCRIPT:
        return _by_letters(letters, _ARABIC, "ar")
    return None if script == _OTHER else script


def _script(char: str) -> str:
    """A letter's script, or the language that alone is written in it."""
    code = ord(char)
    if code < 0x250 or 0x1E00 <= code <= 0x1EFF:
        return _LATIN
    if 0x400 <= code <= 0x52F:
        return _CYRILLIC_SCRIPT
    if 0x600 <= code <= 0x6FF or 0x750 <= code <= 0x77F:
        return _ARABIC_SCRIPT
    if 0x3040 <= code <= 0x30FF:
        return _KANA_SCRIPT
    if 0x3400 <= code <= 0x9FFF or 0x20000 <= code <= 0x323AF:
        return _HAN
    return next((name for low, high, name in _BY_SCRIPT if low <= code <= high), _OTHER)


def _by_letters(letters: Iterable[str], marks: Iterable[tuple[str, str]], otherwise: str) -> str:
    """The language whose own letters are the most; of equal ones the first."""
    counts = Counter(char.lower() for char in letters)
    scores = {name: sum(counts[char] for char in own) for name, own in marks}
    best = max(scores, key=scores.__getitem__)
    return best if scores[best] else otherwise


def _latin(text: str) -> str | None:
    """The language of a text in Latin letters; None where no language's frequent words clearly prevail."""
    scores: defaultdict[str, float] = defaultdict(float)
    n = 0
    for match in islice(_WORD.finditer(text.lower()), _WORDS):
        word = match.group()
        n += 1
        for language, weight in _VOTES.get(word, {}).items():
            scores[language] += weight
        if not word.isascii():
            for char in word:
                own = _LETTER_LANGUAGES.get(char, ())
                for language in own:
                    scores[language] += 1.0 / len(own)
    if not scores:
        return None
    best = max(scores, key=scores.__getitem__)
    score = scores.pop(best)
    leads = score >= _LEAST_LEAD * max(scores.values(), default=0.0)
    return best if leads and score >= max(_LEAST, _LEAST_SHARE * n) else None

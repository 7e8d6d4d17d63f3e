"""The language of a text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.language import LANGUAGES, language_of

TEXTS = {
    "en": [
        "What is the capital of France?",
        "Summarise the following contract in three bullet points.",
        "Who wrote Hamlet?",
    ],
    "de": [
        "Was ist die Hauptstadt von Frankreich?",
        "Wie viele Einwohner hat Berlin?",
        "Schreibe ein Gedicht über den Herbst",
    ],
    "fr": ["Quelle est la capitale de l'Allemagne ?", "Résume ce contrat en trois points.", "Écris un poème sur l'automne"],
    "es": ["¿Cuál es la capital de Francia?", "Resume el siguiente contrato en tres puntos."],
    "pt": ["Qual é a capital da França?", "Resuma o contrato a seguir em três pontos."],
    "it": ["Qual è la capitale della Francia?", "Scrivi una poesia sull'autunno"],
    "nl": ["Wat is de hoofdstad van Frankrijk?", "Schrijf een gedicht over de herfst"],
    "sv": ["Vad är huvudstaden i Frankrike?"],
    "da": ["Hvad er hovedstaden i Frankrig?"],
    "no": ["Hva er hovedstaden i Frankrike?"],
    "fi": ["Mikä on Ranskan pääkaupunki?"],
    "pl": ["Jaka jest stolica Francji?", "Napisz wiersz o jesieni"],
    "cs": ["Jaké je hlavní město Francie?"],
    "hu": ["Mi Franciaország fővárosa?"],
    "ro": ["Care este capitala Franței?"],
    "tr": ["Fransa'nın başkenti neresidir?"],
    "id": ["Apa ibu kota Prancis?"],
    "vi": ["Thủ đô của Pháp là gì?"],
    "ru": ["Какая столица Франции?"],
    "uk": ["Яка столиця Франції?"],
    "sr": ["Који је главни град Француске?"],
    "el": ["Ποια είναι η πρωτεύουσα της Γαλλίας;"],
    "he": ["מהי בירת צרפת?"],
    "ar": ["ما هي عاصمة فرنسا؟"],
    "fa": ["پایتخت فرانسه کجاست؟"],
    "hi": ["फ्रांस की राजधानी क्या है?"],
    "th": ["เมืองหลวงของฝรั่งเศสคืออะไร"],
    "ko": ["프랑스의 수도는 어디입니까?"],
    "ja": ["フランスの首都はどこですか？", "契約書を要約して"],
    "zh": ["法国的首都是哪里？", "请总结以下合同"],
    None: ["", "17 * 3 = ?", "def f(x): return x+1", "Hamlet", "🙂"],
}


@pytest.mark.parametrize(("language", "text"), [(language, text) for language, texts in TEXTS.items() for text in texts])
def test_languages(language: str | None, text: str) -> None:
    """Short questions, with a few frequent words each; None where nothing speaks for one language."""
    assert language_of(text) == language


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    """It is in a known language, or in none that is clear."""
    assert language_of(text) in {None, *LANGUAGES}


def test_only_the_beginning_counts() -> None:
    """So that a long text takes no longer."""
    text = "Was ist die Hauptstadt von Frankreich? " * 300
    assert language_of(text[:10_000] + "the of and " * 10_000) == "de"

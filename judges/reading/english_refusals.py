"""How English refuses, as regular expressions; ``refusals`` runs them."""

_NOT = (
    r"(?:can't|cannot|can not|won't|will not|am unable to|am not able to|'m unable to|'m not able to|'m not going to"
    r"|am not going to|(?:'m|am) not (?:allowed|permitted|authori[sz]ed|willing|in a position) to|have no way to|must decline to|decline to|refuse to|do not have the ability to|don't have the ability to)"
)

_MATTER = (
    r"(?:requests?|questions?|information|instructions?|contents?|details?|advice|guidance|topics?|material|stor(?:y|ies)|tasks?"
    r"|data|answers?|diagnos[ei]s|kind|type|sort|images?|code|malware|list|recipe|script|steps|prompt)"
)

_SUBJECT = rf"(?:(?:you )?(?:with )?(?:[\w-]+ ){{0,4}}{_MATTER}\b)"

_ENGLISH_ACTS = (
    r"(?:"
    r"(?:help|assist)(?: you)?(?: out)?(?: with | in |(?: to)? (?:creat|mak|writ|generat|build|hack|hid|cheat|harm|hurt)"
    r"|(?: here| there)?\s*[.,;!]|$)"
    r"|comply\b|accommodate (?:that|this|your|such)|ful?fill? (?:that|this|your|the|such|any)\b"
    rf"|(?:provide|give|share|offer|supply|disclose|reveal|produce|generate|create|write|discuss|process|complete) "
    rf"(?:{_SUBJECT}|(?:that|this|it|hateful|harmful|illegal|explicit)\b(?! (?:enough|alone|up|back|way)))"
    rf"|answer\W*$|(?:answer|respond to|support|see|view|open) (?:{_SUBJECT}|that\b|this(?=\W*$|[.,;]))"
    r"|continue (?:with )?(?:this|that|the|our) (?:conversation|chat|discussion|dialogue|request|topic|story|roleplay)"
    r"|(?:engage|participate) in|do (?:that|this)\b|determine that|browse|open links|see images"
    r"|access (?:the internet|external|real-time|current|your|that|this|files|links|urls?))"
)

_IDIOM = (
    r"(?!help (?:but|it|my|feel|think|notic|wonder|laugh|smil|lov)"
    r"|(?:provide|give|offer|share) (?:(?:\w+ )?enough|for|up|in|away)\b|(?:support|write|create) (?:this|that) (?:bill|law|war)\b)"
)

_ADVERB = r"(?:\w{2,12}ly )?(?:be able to )?(?:in good conscience )?"

_ENGLISH_CORE = rf"\bi ?(?:really |simply |just )?{_NOT} {_ADVERB}{_IDIOM}{_ENGLISH_ACTS}"

_POLITE = r"(?:(?:(?:i'm|i am) )?(?:sorry|afraid)|my apologies|apologies|unfortunately|regrettably|respectfully|no)[,.:;]? (?:but )?"

_MY_RULES = r"(?:my|our) (?:\w+ )?(?:guidelines|polic(?:y|ies)|programming|instructions|rules|values)"

_AI = r"as an? (?:\w+ ){0,2}(?:assistant|ai\b|artificial intelligence|(?:large )?language model)\b(?: (?:language )?(?:model|assistant))?"

_ENGLISH = (
    rf"^(?:no[.,;]? )?{_ENGLISH_CORE}",
    rf"^(?:(?:i'm|i am|we're) (?:very |so |really |truly )?(?:sorry|afraid)|sorry|my apologies|apologies|i apologi[sz]e"
    rf"|unfortunately|regrettably|thank(?:s| you)|i understand|i appreciate)\b(?:[^.\n]{{0,90}}?|[^\n]{{0,60}}?\bafraid ){_ENGLISH_CORE}",
    rf"^{_AI}[^.,\n]{{0,40}},? (?:{_ENGLISH_CORE[2:]}|i (?:do not|don't) have (?:access|the ability|personal|feelings|opinions)"
    r"|it (?:is not|isn't|would not|wouldn't) (?:be )?appropriate|my (?:guidelines|purpose|programming))",
    r"^i'm (?:just |only )?an ai\b[^.\n]{0,40}\b(?:can't|cannot|don't have|not able|unable)\b",
    r"^(?:(?:i'm|i am) (?:sorry|afraid)[^.\n]{0,20})?(?:i )?(?:must|have to|need to|am going to have to) (?:respectfully )?(?:decline|refuse)"
    r"(?: (?:this|that|your|to (?:answer|help|assist|provide|write|respond|comply|discuss|generate|create|produce|share|engage))\b"
    r"(?! \w+ invitation)|[.,])",
    r"^(?:(?:i'm|i am)(?: sorry)?[^.\n]{0,20})?(?:i'm|i am) not comfortable (?:with|answering|writing|providing|creating|discussing|sharing|helping|assisting)",
    r"^i (?:don't|do not) feel comfortable (?:with|answering|writing|providing|creating|discussing|sharing|helping|assisting)",
    rf"^(?:{_POLITE})?(?:that's|that is|this is) (?:not|n't) (?:something|an? (?:\w+ )?(?:request|question|topic|task)) (?:that )?"
    r"i (?:can|could|(?:am|'m) (?:able|allowed|willing|permitted) to|will) (?:help|assist|do|provide|discuss|answer|ful?fill?|complete)",
    rf"^(?:{_POLITE})?(?:that's|that is|this is) (?:something|an? (?:request|question|topic)) (?:that )?"
    r"i (?:have to|must|need to|will have to|can't|cannot|won't) (?:decline|refuse|help|assist|discuss|answer)",
    rf"^(?:{_POLITE})?(?:this|that|your) (?:request|question|prompt) (?:goes against|violates|is against|falls outside|is outside)",
    rf"^(?:{_POLITE})?{_MY_RULES} (?:prevent|prohibit|forbid|(?:do not|don't) (?:allow|permit|let)) me\b",
    r"^(?:i'm|i am) going to (?:pass on (?:this|that)|decline|refuse)\b",
    r"^[^.\n]{0,60}\b(?:is|are|falls?) (?:outside|beyond) (?:of )?what i(?: can| am able to|'m able to| may) (?:do|help|assist|provide|offer)",
    r"^i (?:don't|do not) think i (?:should|can|could) (?:help|assist|answer|write|provide)",
    r"^it would(?:n't| not)? be (?:un|in|ir)?(?:ethical|appropriate|responsible) (?:for me )?to",
    r"^(?:no[,.;]? )?i(?:'m| am)? (?:refuse|refusing|decline|declining) to (?:help with|assist|write|generate|create|produce|provide|comply|discuss|engage)",
    rf"^(?:{_POLITE})?i (?:(?:do not|don't) have|lack) (?:the (?:ability|capability|means)|access) to (?:send|browse|open (?:links|files|urls)|the internet"
    r"|real-time|live (?:data|information)|external|your (?:files|e-?mails?|calendar|account|device|location)|current (?:data|information|events))",
    r"^(?:helping|assisting|providing|writing|generating|creating|answering)\b[^.\n]{0,80} (?:would be|is) (?:unethical|illegal|inappropriate|irresponsible)",
    r"^(?:i'm|i am) not comfortable (?:producing|generating|helping with|assisting)",
    r"^(?:no[,.;]? |sorry[,.;]? )?i (?:won't|will not|can't|cannot) help you (?:stalk|spy|steal|forge|fake|blackmail|bypass|poison|kill|scam|launder|evade)",
    r"^(?:sorry[,.;]? )?no can do\b",
    rf"^(?:{_POLITE})?(?:i'd|i would) (?:rather not|prefer not to) (?:answer|discuss|help|engage)",
)

START = rf"\A(?:{'|'.join(_ENGLISH)})"  # one anchor: no alternative is tried further on


# Patterns that read on from the start: each runs only where one of its own cues stands.
WIDE = (
    (
        ("against", "violat", "contrary", "conflict", "breach"),
        r"^[^.\n]{0,90}\b(?:against|violat\w+|contrary to|conflicts? with|breach\w*) (?:my|the (?:usage|content|safety)) (?:\w+ ){0,2}"
        r"(?:guidelines|polic(?:y|ies)|programming|principles|terms)\b",
    ),
    (
        ("not something", "n't something"),
        r"^[^.\n]{0,110}\b(?:isn't|is not|not) something (?:that )?i(?:'m| am| can| will| could| would)(?: be)?(?: able to| willing to"
        r"| comfortable)? (?:help|assist|provid|discuss|support|engag|generat|writ|creat|produc)",
    ),
    (
        ("declin", "refus"),
        r"^(?:[^.\n]{0,60}[,:;] )?(?:but )?i(?: must| have to| need to| will have to|'ll have to) (?:respectfully |politely )?(?:decline|refuse)"
        r"(?=[.,:;]| (?:this|that|your|to))(?! (?:\w+ ){0,2}(?:invitation|offer|job))",
    ),
)

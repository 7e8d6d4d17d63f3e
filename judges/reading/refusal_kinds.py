"""Further ways to refuse, by kinds that every language has; ``refusals`` puts them together with its own.

The kinds: will not write that, would rather not answer, not permitted, against my rules, must decline, not something that I
can do.
"""

_DAYS = (
    r"(?:today|tonight|tomorrow|(?:mon|tues|wednes|thurs|fri|satur|sun)day|weekend|next (?:week|month|year)|sofa"
    r"|mov(?:e|ing))"
)
_LEAD = (
    r"(?:(?:no|sorry|apologies|my apologies|unfortunately|regrettably|respectfully|i'm sorry|i am sorry|i'm afraid"
    r"|i apologi[sz]e)[,.;!]? (?:but )?)?"
)
_CANNOT = (
    r"(?:can't|cannot|can not|won't|will not|(?:am|'m) (?:not able|unable|not going|not willing|not permitted"
    r"|not allowed|not in a position) to"
    r"|(?:can't|cannot) (?:and|or) (?:won't|will not))"
)
_MAKE = r"(?:provide|giv(?:e|ing)|write|create|generate|produce|draft|compose|share|offer|supply|reveal|disclose)"
_THING = (
    r"(?:content|instructions?|information|advice|opinions?|malware|code|images?|essays?|poems?|stor(?:y|ies)"
    r"|articles?|lyrics|recipes?"
    r"|details?|data|dosages?|diagnos[ei]s|guidance|help|material|text|prompt|speech|jokes?|steps?)"
)
_IT = (
    r"(?:(?:that|this|it|those|these)(?=\W*$|[.,;:!?]| (?:for you|here|kind|type|sort|content|request|information"
    r"|because|since|as)\b)"
    r"|such\b|any\b(?! (?:more|longer|way)))"
)
_SPEAK = r"(?:discuss|comment|provide|answer|share|give|write|help|generate|create|engage|speculate|say|judge such)"
ENGLISH = (
    rf"^{_LEAD}i ?(?:really |simply |just )?{_CANNOT} {_MAKE} (?:you )?(?!my secret|our\b|his\b"
    rf"|her\b)(?:(?:\w[\w-]* ){{0,4}}{_THING}\b|{_IT})",
    rf"^[^.!\n]{{0,60}}?\bi ?{_CANNOT} (?:help|assist) you (?:with|to|in|do|get|make|build|write|find|harm|hurt|kill"
    rf"|hack|cheat|break|bypass"
    rf"|plan|hide|steal|forge|avoid|evade|create)\b(?![^.\n]{{0,60}}\b{_DAYS}\b)",
    rf"^{_LEAD}i ?{_CANNOT} (?:provide (?!for\b|enough\b)(?:medical|legal|financial|tax|personal|step)"
    r"|(?:diagnose|advise|recommend (?:one|any|a (?:candidate|stock))|verify|confirm|comment on|talk about|go into"
    r"|get into|speculate (?:about|on)|impersonate|engage with|assist in|assist with"
    r"|participate in|take part in|answer (?:that|this|such|any|questions? (?:about|on|like)))\b"
    r"|(?:support|encourage|condone|promote|facilitate|endorse|enable) (?:or \w+ )?"
    r"(?:illegal|harmful|violent|violence|hate|hateful|unethical|dangerous|self-harm|harassment|such|any))",
    rf"^{_LEAD}i (?:do not|don't|never) (?:provide|create|generate|write|produce|support|assist with|engage in"
    rf"|participate in|give out) "
    rf"(?:(?:\w[\w-]* ){{0,4}}(?:content|instructions?|advice|malware|material|opinions?|information|harassment"
    rf"|activit\w+)\b|{_IT})",
    rf"^{_LEAD}i (?:(?:really|simply|just) )?(?:should not|shouldn't|mustn't|must not) (?:answer|help|discuss|provide"
    rf"|share|comment|assist|respond)",
    rf"^{_LEAD}i(?:'m| am) not (?:allowed|permitted|authori[sz]ed|supposed|at liberty|programmed|designed) to "
    r"(?:tell|say|talk|discuss|disclose|reveal|answer|share|comment|provide|help|generate|create|write|assist|give)",
    r"^(?:your )?request (?:denied|declined|rejected|refused)\b",
    rf"^{_LEAD}i (?:have|see) no (?:choice|option|alternative) but to (?:decline|refuse|say no)",
    rf"^{_LEAD}i(?:'m| am)? ?(?:have to|must|need to|going to have to|will have to"
    rf"|'ll have to) (?:respectfully )?(?:(?:decline|refuse|pass)\b"
    r"(?: (?:here|(?:on )?(?:this|that)(?: one| request)?)(?=\W*$|[.,:;])|[.,])|say no (?:to (?:this|that|your)|here)"
    r"|draw (?:the|a) line)",
    rf"^{_LEAD}(?:thank(?:s| you)[^.\n]{{0,40}}, but )?i(?:'d| would)? (?:rather not|prefer not to"
    rf"|prefer to not) (?:(?:answer|discuss|help"
    r"|engage|respond|comment|get into|go into|take part|speculate)\b(?! (?:my|the) (?:door|phone))"
    r"|(?:say|write|create|share|give|offer|provide) (?:that|this|it|about|such|anything|an? (?:opinion|answer|view)"
    r"|any)\b)",
    rf"^{_LEAD}(?:that|this|it|[^.,\n]{{1,50}})(?:'s| is|'d be| would be) (?:not|n't)? ?(?:something|a (?:request"
    rf"|topic|task|question)) (?:that )?i"
    r"(?:'m| am)? ?(?:not |n't )?(?:can't|cannot|won't|able to|allowed to|permitted to|willing to|comfortable"
    r"|prepared to|free to) ",
    rf"^{_LEAD}i(?:'m| am)? ?(?:have to|must|need to|going to|going to have to|will|will have to"
    rf"|'ll have to) turn (?:this|that|it)(?: one| request)? down\b",
    r"^as an? (?:\w+ ){0,2}(?:assistant|ai|language model)\b[^.\n]{0,20}, i (?:do not|don't) (?:have|hold|form|express"
    r"|take)\b",
    r"^[^.\n]{0,80} (?:is|are) off the table (?:for me|here)\b",
    r"^[^.\n]{0,60}\bsomething (?:that )?i (?:can't|cannot|won't|will not|am unable to) (?:\w+ly )?(?:do|help|assist"
    r"|provide|write|support)\b",
    rf"^(?:let's|let us|perhaps we) [^.;\n]{{0,40}}[;,.:] i ?{_CANNOT} (?:help|assist|engage|discuss|continue|answer"
    rf"|provide)",
    r"^[^.\n]{0,110}\b(?:isn't|is not|not) something (?:that )?i(?:'m| am)? ?(?:can|will|could|able to|allowed to"
    r"|permitted to|willing to|comfortable"
    r"|prepared to) ?(?:do|talk|share|answer|reveal|say|helping|with|discuss|give)?\b",
    rf"^{_LEAD}(?:this|that|it|your (?:request|question))(?:'s| is| falls?) (?:outside"
    rf"|beyond) (?:of )?(?:the scope of )?(?:what i|my (?:\w+ )?(?:scope|area|expertise|capabilit|abilit|remit"
    r"|guidelines|purpose|knowledge|role))",
    r"^i(?:'m| am) (?:programmed|designed|trained|instructed|required|built) (?:to (?:avoid|refuse|decline)|not to"
    r"|never to)\b",
    rf"^i(?:'m| am) (?:designed|programmed|here|happy|built|just|only)\b[^.\n]{{0,50}}\b(?:but|so) i ?{_CANNOT}\b",
    rf"^i understand\b[^.\n]{{0,60}}, but i ?{_CANNOT} (?:help|assist|support|provide|do|be part)",
    r"^(?:your|this|that) (?:request|question|prompt)\b[^.\n]{0,90}\b(?:i (?:won't|can't|cannot|will not)|(?:cannot"
    r"|can't) be (?:fulfilled|completed|processed))\b",
    rf"^{_LEAD}i (?:can't|cannot|could not|couldn't) in good (?:faith|conscience)\b",
    rf"^{_LEAD}i (?:won't|will not) be (?:providing|writing|helping|generating|creating|answering|sharing|assisting)",
    rf"^{_LEAD}i (?:do not|don't) feel (?:right|able|good) (?:about )?(?:helping|answering|writing|providing"
    rf"|discussing|sharing|with"
    r"|to (?:give|help|answer|write|provide|discuss|share))",
    rf"^{_LEAD}it(?:'s| is| would be) (?:not|in|un) ?(?:appropriate|ethical) for me to {_SPEAK}\b",
    rf"^{_LEAD}i (?:do not|don't) have (?:\w+ )?(?:permission|authori[sz]ation|clearance) to (?:share|reveal|discuss"
    rf"|disclose|provide|access|view|do that)\b",
    rf"^{_LEAD}i (?:do not|don't) have (?:the (?:ability|capability|capacity) to|personal (?:opinions|experiences?"
    rf"|feelings|beliefs|views))\b",
    rf"^{_LEAD}i ?{_CANNOT} (?:perform|execute|portray|act as|pretend to be|role-?play|take on the role|impersonate"
    rf"|adopt the|form (?:personal )?opinions)",
    r"^(?:sorry|i'm sorry|i am sorry|i apologi[sz]e|my apologies|unfortunately|as an? (?:\w+ ){0,2}(?:ai|model"
    r"|assistant)|i(?:'m| am) (?:just |only )?"
    rf"an? (?:ai|language model))\b[^\n]{{0,90}}?\bi ?{_CANNOT} (?:help|assist|provide (?!for\b)|engage|discuss"
    rf"|generate|perform|form|comply|answer)\b"
    rf"(?! (?:but|it|enough|my|the phone|the door))(?![^.\n]{{0,60}}\b{_DAYS}\b)",
    rf"^(?:i apologi[sz]e|sorry|apologies) ?[-–—:] ?(?:but )?i ?(?:{_CANNOT}|should not|shouldn't) {_SPEAK}",
)
CUES = (" i ", " i'", "request", "off the table", "for me to", "outside", "beyond")
OTHERS = {
    "spanish": (
        r"\b(?:prefiero|preferiría) no (?:responder|contestar|opinar|comentar|hablar de|entrar en|participar|dar)\b",
        r"\bno voy a (?:escribir|crear|generar|ayudarte|ayudarle|producir|proporcionar|participar|redactar"
        r"|responder a (?:es[ao]|est[ao]|tu|su))\b",
        r"\bno (?:me está|se me|me es) permit\w+ (?:hablar|responder|compartir|proporcionar|ayudar|discutir|dar)\b",
        r"\bno tengo (?:permiso|autorización) para (?:hablar|compartir|revelar|responder|proporcionar)\b",
        r"\b(?:es[ao]|est[ao]|no) (?:no )?es algo (?:con|en|de) (?:lo )?que (?:pueda|puedo|podría)",
        r"\bno es algo que (?:pueda|puedo) (?:hacer|ayudar|responder|compartir)",
        r"\blamento (?:mucho )?no poder (?:ayudar|asistir|responder|proporcionar|cumplir|atender)",
        r"\b(?:tengo que|debo|he de|me veo obligad[oa] a) (?:rechazar|declinar|negarme)",
    ),
    "french": (
        r"\bje (?:préfère|préférerais|préfèrerais) ne pas (?:répondre|donner|aborder|commenter|en parler|discuter"
        r"|écrire|me prononcer)\b",
        r"\b(?:à l'encontre d|contraire |contrevient |enfreint |viole |contre )(?:es? |à |aux )?(?:de )?mes (?:\w+ )?"
        r"(?:directives|règles|principes|consignes|politiques)",
        r"\bil (?:ne )?m'est (?:pas possible|pas permis|interdit) d(?:e |')",
        r"\bje (?:n'ai pas le droit|n'ai pas l'autorisation|ne suis pas (?:autorisée?|habilitée?|en droit)) (?:de |à |d')"
        r"(?:donner|partager|divulguer|fournir|révéler|discuter|parler|répondre|aborder|vous|t')",
        r"\bje ne (?:peux|pourrai|puis) (?:malheureusement |hélas )?pas (?:vous |t'|te )(?:aider|assister|donner"
        r"|fournir|répondre)\b",
        r"\bje ne (?:peux|pourrai|puis) pas (?:donner|accéder|rédiger|produire) (?:d'|de |à |ce|cette|un tel)",
        r"\bje (?:dois|suis (?:contrainte?|obligée?) de|me vois contrainte? de) (?:refuser"
        r"|décliner)\b(?! (?:l'invitation|votre invitation))",
        r"\bce n'est pas (?:quelque chose|une? \w+) (?:que|dont|à laquelle|avec laquelle|sur lequel) je (?:peux|puisse"
        r"|pourrais|suis)",
        r"\bje (?:n'écrirai|ne rédigerai|ne produirai|ne créerai|ne fournirai|ne participerai) pas\b",
        r"\bje ne vais pas (?:écrire|rédiger|vous aider|t'aider|produire|créer|fournir)",
    ),
    "german": (
        r"\bich (?:möchte|würde) (?:\w+ ){0,4}(?:lieber )?nicht (?:beantworten|äußern|kommentieren|eingehen|schreiben)",
        r"\b(?:dazu|darüber|hierzu) (?:darf|möchte|kann|werde) ich (?:\w+ ){0,3}(?:nicht|keine)",
        r"\bes ist mir (?:leider )?(?:nicht (?:möglich|erlaubt|gestattet)|untersagt)",
        r"\b(?:ich kann|kann ich) (?:\w+ ){0,2}(?:bitte|anfrage|wunsch|anliegen|aufforderung) (?:\w+ ){0,2}nicht",
        r"\bich werde (?:\w+ ){0,3}kein\w* [^.\n]{0,40}(?:erstellen|schreiben|verfassen|liefern|geben|generieren)",
        r"\bich kann (?:diesen?|dieses|solche\w*|so etwas) (?:\w+ ){0,2}nicht (?:schreiben|erstellen|verfassen|liefern"
        r"|generieren|unterstützen)",
        r"\bich (?:bin nicht bereit|weigere mich)\b[^.\n]{0,60}\b(?:zu )?(?:helfen|schreiben|erstellen|unterstützen"
        r"|verfassen)",
        r"\bich muss (?:\w+ ){0,3}ablehnen\b",
        r"\bbin ich (?:leider )?nicht in der lage\b",
        r"\bkann ich (?:\w+ ){0,2}keine? (?:hilfe|unterstützung|auskunft|anleitung)",
    ),
    "portuguese": (
        r"\b(?:prefiro|preferia|preferiria) não (?:responder|comentar|opinar|dar|entrar|falar sobre|participar)\b",
        r"\bnão (?:me )?é possível(?: para mim)? (?:fornecer|ajudar|responder|partilhar|compartilhar|dar|gerar)\b",
        r"\b(?:viola|infringe|contraria|contra) (?:as |os )?(?:minhas|meus)\b",
        r"\bnão vou (?:escrever|criar|gerar|ajudar|produzir|fornecer|participar|responder)\b(?! a minha| o meu)",
        r"\b(?:tenho de|tenho que|preciso|devo|sou obrigad[oa] a) recusar\b(?! o convite)",
        r"\bnão é algo (?:com (?:o )?que|em que|que) (?:eu )?(?:possa|posso)",
        r"\bnão (?:estou autorizad[oa] a|me é permitido|tenho permissão para|tenho autorização para) \w+",
        r"\b(?:lamento|sinto muito),? (?:mas )?não (?:poder|posso) (?:ajudar|responder|fornecer|atender)",
    ),
    "russian": (
        r"\b(?:предпочитаю|предпочту|предпоч[её]л бы|предпочла бы) не (?:отвечать|обсуждать|комментировать|говорить"
        r"|высказыва)",
        r"(?:противоречит|нарушает) мо(?:им|ей|и|ю)\b",
        r"\bмне (?:не разрешено|не позволено|запрещено|нельзя) (?:обсуждать|отвечать|раскрывать|давать|делиться|говорить)",
        r"\bя не (?:буду|стану) (?:писать|создавать|помогать (?:вам|тебе|с этим|в этом)|генерировать|участвовать"
        r"|отвечать|давать|обсуждать)",
        r"\b(?:я |мне )?(?:должен|должна|вынужден[а]?|придётся|придется) (?:отклонить|отказать)",
        r"\bне могу (?:предоставить|раскры(?:ть|вать)|поделиться|обсуждать|сгенерировать|ставить диагноз"
        r"|давать (?:инструкц|совет|рекоменд)"
        r"|(?:вам|тебе) (?:с этим|в этом)? ?помочь|(?:вам |тебе )?помочь (?:вам|тебе|с этим|в этом))",
        r"\bэто не то, (?:с чем|что|о чём|о чем) я (?:могу|готов|вправе)",
    ),
    "chinese": (
        r"我(?:实在)?(?:不便|不方便|不宜|不想)(?:回答|透露|讨论|评论|提供|告知)",
        r"问题我?(?:不能|无法|没法|没有办法|恕不能)(?:回答|解答|答复)",
        r"我不会(?:编写|撰写|写|生成|提供|创作|帮您|帮你|协助|参与)",
        r"(?:没有|無)(?:权限|權限)(?:透露|访问|提供|讨论|查看|回答)",
        r"帮不(?:了|到|上)(?:您|你)",
        r"我(?:无法|不能|没法|没办法)(?:帮|帮助|协助|幫助)(?:您|你)",
        r"(?:必须|只能|不得不|恕我)(?:拒绝|婉拒)",
    ),
    "japanese": (
        r"(?:お教え|ご案内|お伝え|お答え|共有|提供|開示|作成|生成|お手伝い|支援|協力)(?:する(?:こと|事)は|は|を)?"
        r"(?:でき(?:ません|かねます)|いたしかねます|いたしません|差し控え)",
        r"(?:要望|希望|依頼|リクエスト|期待)に(?:は)?(?:沿|添|応)[いえ]?(?:かねます|ません|うことが|ることが)",
        r"(?:文章|内容|コード|記事|投稿|もの)[はを]?(?:書け|作れ|お書きでき|作成でき|生成でき)ません",
        r"お断り(?:して(?:おり|い)ます|しなければ|する)",
        r"お力に(?:は)?なれ(?:ません|そうにありません)",
        r"回答(?:は|を)?(?:控え|差し控え|でき(?:ません|かねます))",
    ),
    "hindi": (
        r"मेर[ीे] (?:नीति|गाइडलाइन|दिशा|नियम|सिद्धांत)[^।\n]{0,16}के (?:विरुद्ध|खिलाफ|ख़िलाफ़)",
        r"(?:जवाब|उत्तर|राय) नहीं (?:देना|दे सक|दूँग|दूंग|दे पा)",
        r"(?:मैं|हम)[^।\n]{0,50}(?:निर्देश|तरीक|सामग्री|सलाह|जानकारी|विवरण)[^।\n]{0,20}नहीं (?:दे|लिख|साझा|बता|बना)",
        r"मैं (?:ऐसी|ऐसा|ऐसे|इस तरह)[^।\n]{0,30}नहीं (?:लिख|बनाऊ|दूँग|दूंग|कर)",
        r"(?:सहायता|मदद) नहीं कर(?:ूँग|ूंग|ेंग)",
        r"मुझे[^।\n]{0,50}(?:अनुमति|इजाज़त|इजाजत) नहीं",
    ),
    "arabic": (
        r"(?:أفضل|أُفضّل|أفضّل) (?:عدم|ألا|أن لا) (?:ال)?(?:إجابة|أجيب|رد|تعليق|خوض|أناقش|مناقشة)",
        r"(?:غير قادر|لست قادر)\S{0,2} على (?:تلبية|مساعد|تقديم|الإجابة|المساعدة|تنفيذ)",
        r"لن (?:أكتب|أقوم ب|أقدم|أنشئ|أساعد|أشارك|أجيب)",
        r"(?:غير مسموح|لا يُسمح|لا يسمح|ليس مسموحًا|ليس لدي إذن|ليست لدي صلاحية)(?: لي)?\b",
        r"لا (?:يمكنني|أستطيع|استطيع) (?:مشاركة|الكشف|إعطا|كتابة|مساعدتك|مساعدتكم|الإفصاح|إنتاج)",
    ),
    "bengali": (
        r"আমার (?:নীতি|নির্দেশিকা|নিয়ম)\S{0,5} (?:বিরুদ্ধে|পরিপন্থী)",
        r"আমি[^।\n]{0,40}(?:উত্তর|জবাব) দিতে (?:চাই|পারি|পারব|পারছি) না",
        r"আমি[^।\n]{0,50}(?:নির্দেশ|পরামর্শ|তথ্য|বিষয়বস্তু|এতে আপনাকে)(?![^।\n]{0,16}(?:বিশ্বাস|ভুল|বুঝ))"
        r"[^।\n]{0,16}(?:দিতে|করতে|লিখতে) (?:পারি|পারব|পারছি) না",
        r"আমি (?:এই|এমন|এ) ?(?:ধরনের|রকম)[^।\n]{0,30}(?:লিখব|করব|দেব|দিব) না",
        r"(?:অনুমতি (?:আমার )?নেই|আমার[^।\n]{0,30}অনুমতি নেই)",
    ),
    "urdu": (
        r"(?:جواب|رائے)[^۔\n]{0,4} (?:دینا نہیں چاہ|نہیں دے سک|نہیں دینا|نہیں دوں)",
        r"میں[^۔\n]{0,50}(?:ہدایات|طریقہ|مشورہ|مواد|معلومات)[^۔\n]{0,20}نہیں (?:دے|لکھ|بتا|دوں)",
        r"میں (?:ایسا|ایسی|ایسے|اس طرح)[^۔\n]{0,30}نہیں (?:لکھوں|بناؤں|دوں|کروں)",
        r"مجھے[^۔\n]{0,50}اجازت نہیں",
        r"میری پالیسی\S{0,3} کے خلاف",
    ),
    "indonesian": (
        r"\bsaya (?:lebih suka|memilih|lebih baik) (?:untuk )?tidak (?:menjawab|membahas|berkomentar|menanggapi"
        r"|memberikan)",
        r"\bsaya tidak (?:akan|mau|bersedia) (?:menulis|membuat|membantu (?:anda|kamu|dengan)|memberikan|menghasilkan)",
        r"\bsaya tidak (?:diizinkan|diperbolehkan|berwenang|boleh|memiliki izin) (?:untuk )?(?:membahas|membagikan"
        r"|memberikan|menjawab|membantu)",
        r"\bsaya (?:harus|terpaksa) menolak\b(?! undangan)",
        r"\bsaya tidak (?:bisa|dapat) membagikan\b",
    ),
}
"""By language, as ``refusals`` names them."""
OTHER_CUES = {
    "spanish": (
        "prefier",
        "preferir",
        "no voy",
        "permit",
        "es algo",
        "lamento",
        "tengo que",
        "debo",
        "permiso",
        "autorización",
    ),
    "french": ("ce n'est pas", "encontre"),
    "german": ("ist mir",),
    "portuguese": ("prefir", "prefer", "viola", "infringe", "contra", "recusar", "lamento"),
    "russian": ("нарушает", "отклонить", "предпоч", "запрещ"),
    "chinese": ("不便", "不方便", "不宜", "不想", "没法", "帮不", "婉拒", "權限"),
    "japanese": ("差し控え", "控え", "いたしません"),
    "arabic": ("أفضل", "أُفضّل", "أفضّل", "غير ", "لست ", "ليس"),
    "urdu": ("اجازت",),
}

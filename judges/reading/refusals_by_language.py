"""How twelve other languages refuse, as regular expressions by language; ``refusals`` runs them."""

REQUESTS = {
    "chinese": (
        r"我(?:们)?(?:们|們)?(?:现在|目前|實在|实在)?(?:无法|無法|不能|不可以|不会|不會|没办法|沒辦法)(?:为您|為您|为你|给您|给你|向您|向你)?"
        r"(?:提供|帮助(?:您|你)|幫助(?:您|你)|协助|協助|满足(?:您|你|该|这)|滿足|回答(?:这|這|该|此|您|你)|生成|创建|創建|讨论这|处理(?:您|这|该)|執行|执行(?:该|这))"
        r"|我(?:无法|不能)(?:回答|协助|帮忙|处理)(?:[，。,.]|$)",
    ),
    "hindi": (
        r"(?:मैं|हम)[^।\n]{0,60}(?:अनुरोध|जानकारी|प्रश्न|सवाल|सामग्री|सलाह|इसमें|सहायता|आपकी मदद|कार्य)"
        r"(?![^।\n]{0,30}(?:विश्वास|यकीन|यक़ीन|भरोसा|भूल|समझ))[^।\n]{0,40}"
        r"(?:नहीं (?:कर|दे|बना) (?:सकता|सकती|सकते)|असमर्थ)",
    ),
    "spanish": (
        r"(?:\bno (?:puedo|podr[eé]|podemos|me es posible|soy capaz de|estoy autorizad[oa] a|estoy en condiciones de)|\bme temo que no puedo) "
        r"(?:(?:ayudar|asistir)(?:te|le|los|os)?\b(?! a (?:mi|su|tu)\b)|cumplir|(?:proporcionar|ofrecer|compartir|facilitar|dar)(?:te|le)?"
        r" (?:es[ao]s?|est[aeo]s?|la|ese|información|instrucciones|consejos|datos|detalles|asesoramiento)"
        r"|responder(?:te)? (?:a )?(?:es[ao]|est[ao]|tu|su)\b|generar|crear (?:ese|este|contenido)|hacer (?:eso|esto)|participar en|atender)",
        r"(?:debo|tengo que) (?:rechazar|declinar) (?:est|es|tu|su)",
    ),
    "french": (
        r"\bje (?:ne (?:peux|pourrai|puis) pas|ne suis pas en mesure d[e']|suis dans l'incapacité d[e']|suis incapable d[e']"
        r"|crains de ne pas pouvoir) ?(?:(?:vous |t'|te )(?:aider|assister|fournir|donner|proposer)"
        r"|(?:fournir|donner|partager|divulguer) (?:cette|ces|ce|de |d'|les|des)|répondre à (?:cette|ce|votre|ta)\b"
        r"|générer|créer (?:ce|cette|du contenu)|accéder à (?:votre|ta|cette)|traiter (?:cette|votre)|faire (?:cela|ça)|satisfaire)",
        r"\bil m'est impossible d[e'] ?(?:vous |te |t')?(?:aider|fournir|répondre|donner|générer|créer|partager|satisfaire|traiter)",
        r"\bje (?:dois|suis obligée? de) (?:refuser|décliner) (?:cette|votre|ta)",
    ),
    "arabic": (
        r"(?:لا (?:أستطيع|استطيع|يمكنني|أقدر)|لن (?:أستطيع|أتمكن من))(?: (?:القيام ب|أن))? ?"
        r"(?:مساعدتك|المساعدة|مساعدتكم|تقديم|الإجابة (?:على|عن) (?:هذا|سؤالك)|تلبية|إنشاء|توفير|تزويدك|مناقشة هذا|تنفيذ)",
    ),
    "bengali": (
        r"(?:অনুরোধ|তথ্য|প্রশ্নের|পরামর্শ|সাহায্য|সহায়তা|বিষয়বস্তু)[^।\n]{0,30}আমার পক্ষে সম্ভব (?:নয়|না|হচ্ছে না)",
        r"আমার পক্ষে[^।\n]{0,40}(?:অনুরোধ|তথ্য|প্রশ্নের|পরামর্শ|সাহায্য|সহায়তা|বিষয়বস্তু)[^।\n]{0,30}সম্ভব (?:নয়|না|হচ্ছে না)",
        r"(?:^|[,।] ?)(?:এই|এ|আপনার) (?:অনুরোধ|প্রশ্নের|বিষয়ে)[^।\n]{0,30}(?:পূরণ|উত্তর|সাহায্য|সহায়তা) (?:করা|দেওয়া) সম্ভব (?:নয়|না|হচ্ছে না)",
        r"আমি[^।\n]{0,60}(?:অনুরোধ|তথ্য|প্রশ্নের|পরামর্শ|বিষয়বস্তু|বিষয়ে)[^।\n]{0,24}(?:দিতে|রাখতে|বলতে|লিখতে|জানাতে"
        r"|(?:পূরণ|প্রদান|সরবরাহ|তৈরি|শেয়ার|সাহায্য|সহায়তা|আলোচনা|প্রক্রিয়া|সম্পাদন|পালন|ব্যাখ্যা) করতে) পার(?:ব|বো|ি|ছি) না",
        r"আমি[^।\n]{0,30}(?:আপনাকে|তোমাকে|এতে|এটিতে|এটাতে|এক্ষেত্রে|এ ব্যাপারে|এই কাজে|দুঃখিত,?)[^।\n]{0,24}"
        r"(?:সাহায্য|সহায়তা) করতে পার(?:ব|বো|ি|ছি) না",
        r"(?:^|[,।] ?)আমি (?:সাহায্য|সহায়তা) করতে পার(?:ব|বো|ি|ছি) না",
    ),
    "portuguese": (
        r"(?:\bnão (?:posso|poderei|consigo|sou capaz de|estou autorizad[oa] a)|receio não poder) "
        r"(?:(?:te |lhe )?(?:ajudar|auxiliar|ajudá)(?:-l[oa]s?|-te|-lhe)?(?: com| a |\.|,|$)|(?:fornecer|dar|oferecer|compartilhar|partilhar)(?:-lhe)?"
        r" (?:ess[ae]s?|est[ae]s?|conselhos|informaç|instruç|dados|detalhes)|responder a? ?(?:ess|est|à sua|sua)"
        r"|gerar|criar (?:ess|est|conteúdo)|atender|cumprir|fazer (?:isso|isto)|participar)",
        r"\bnão me sinto (?:à vontade|confortável) (?:para|em|a) (?:escrever|responder|ajudar|fornecer|criar|discutir|fazer)",
    ),
    "russian": (
        r"\bя (?:не могу|не смогу|не в состоянии|не имею возможности|не буду) "
        r"(?:(?:вам |тебе )?помо(?:чь|гать)(?: вам| тебе)?(?: с | в |[.,]|$)|предостав|ответить на (?:этот|ваш|твой|данный)|давать|дать (?:вам|совет)"
        r"|выполнить|созда(?:ть|вать) (?:такой|такие|этот|контент)|обсуждать|генерировать|делиться|участвовать|сделать это)",
        r"\bя (?:вынужден|вынуждена|должен|должна) отказать",
    ),
    "urdu": (
        r"میں[^۔\n]{0,60}(?:درخواست|معلومات|سوال کا|مشورہ|مواد|آپ کی مدد|اس میں مدد|مدد کرنے)"
        r"(?![^۔\n]{0,30}(?:یقین|بھروسہ|بھروسا|بھول|سمجھ))[^۔\n]{0,40}"
        r"(?:نہیں (?:کر|دے) (?:سکتا|سکتی|سکتے)|قاصر)",
    ),
    "indonesian": (
        r"\b(?:saya|kami) (?:tidak|tak) (?:dapat|bisa|mampu) (?:membantu (?:anda|dengan|kamu|permintaan)|memberikan|menyediakan"
        r"|memenuhi|menjawab (?:pertanyaan (?:ini|itu|tersebut|anda))|membuat (?:konten|hal)|melakukan (?:itu|hal)|menghasilkan|memproses)",
    ),
    "german": (
        r"(?:\bich (?:kann|darf|werde)|\b(?:kann|darf|werde) ich)\b[^.\n]{0,50}?(?:\bnicht\b|\bkein[e]?[nrms]?\b)[^.\n]{0,60}?"
        r"(?:\b(?:dabei|damit|behilflich)\b|(?:anfrage|bitte) |anfrage|informationen|inhalte?|anleitung|ratschläge|auskunft)",
        r"\bbei (?:dieser|ihrer|deiner|solchen?) (?:\w+ )?(?:anfrage|bitte|frage|anliegen|aufgabe)\w* kann ich (?:\w+ ){0,2}nicht",
        r"\bich (?:darf|werde) (?:diese|solche)\w* (?:\w+ )?(?:inhalte|texte|informationen|anleitung|daten)\w* (?:leider )?nicht",
        r"(?:\bich kann|\bkann ich) (?:dir|ihnen|euch) (?:dabei|damit|hierbei) (?:leider )?nicht",
        r"\b(?:dabei|damit|hierbei) kann ich (?:\w+ ){0,2}nicht (?:helfen|dienen)",
        r"(?:\bich kann|\bkann ich) (?:\w+ ){0,3}(?:diese|ihre|deine|solche)\w* (?:\w+ )?(?:frage|anfrage|bitte|informationen|inhalte|daten)\w* "
        r"(?:leider )?nicht",
        r"\bich bin (?:leider )?nicht in der lage, (?:solche|diese|ihnen|dir)",
        r"\bich muss (?:diese|ihre|deine) (?:anfrage|bitte) (?:leider )?ablehnen",
    ),
    "japanese": (
        r"(?:ご?要望|リクエスト|ご?依頼|質問|情報|内容|助言|アドバイス|行為|お手伝い|支援|コンテンツ)"
        r"(?![^。\n]{0,6}(?:信じ|信用|理解|忘れ|見つけ))[^。\n]{0,14}"
        r"(?:お応えできません|お答えできません|できません|いたしかねます|できかねます|ことができません)",
    ),
}

# The kinds that every language has: refusing, no permission, against my rules, as a language model I cannot.
KINDS = {
    "spanish": (
        r"\bme niego a (?:ayudar|escribir|generar|crear|participar|proporcionar|responder)",
        r"\bcontra (?:de )?mis (?:\w+ )?(?:directrices|políticas|normas|principios)",
        r"\b(?:infringe|viola|incumple) mis (?:directrices|políticas|normas)",
        r"^como (?:modelo de lenguaje|ia\b|asistente|inteligencia artificial)[^.\n]{0,60}\bno (?:puedo|tengo)",
        r"\bno estoy autorizad[oa] a (?:compartir|revelar|divulgar|hablar)",
        r"\bme es imposible (?:ayudar|responder|cumplir|atender|proporcionar)",
    ),
    "french": (
        r"\bje refuse d(?:e |')(?:participer|écrire|rédiger|générer|créer|aider|fournir|répondre)",
        r"\bje ne suis pas autorisée? à (?:partager|divulguer|fournir|révéler|discuter)",
        r"\b(?:contraire à|enfreint|viole|contre) mes (?:\w+ )?(?:directives|règles|principes|consignes)",
        r"^en tant qu(?:e |')(?:modèle|ia\b|assistant|intelligence)[^.\n]{0,60}\bje n(?:e |')",
        r"\bje dois (?:refuser|décliner)[.,]",
    ),
    "portuguese": (
        r"\brecuso-me a (?:ajudar|escrever|gerar|criar|participar|fornecer)",
        r"\b(?:contra|viola|infringe) (?:as )?minhas (?:\w+ )?(?:diretrizes|políticas|normas|regras)",
        r"^como (?:um )?(?:modelo de linguagem|ia\b|assistente|inteligência artificial)[^.\n]{0,60}\bnão (?:posso|tenho|consigo)",
        r"\b(?:devo|preciso|tenho que) recusar (?:est|ess|seu|sua)",
        r"\bnão (?:tenho permissão|estou autorizad[oa]) (?:para|a) (?:compartilhar|partilhar|fornecer|divulgar|revelar)",
    ),
    "german": (
        r"\b(?:verstößt|verstoßen) gegen meine (?:\w+ )?(?:richtlinien|regeln|grundsätze|vorgaben)",
        r"\bals (?:ki|sprachmodell|künstliche intelligenz)\b[^.\n]{0,60}\b(?:kann|habe|darf) ich[^.\n]{0,40}(?:nicht|kein)",
        r"\bbei (?:so etwas|so was|dergleichen) helfe ich (?:\w+ )?nicht",
        r"\bdas (?:kann|darf|werde) ich (?:leider )?nicht (?:tun|beantworten|schreiben|unterstützen)\b[.!,]?",
        r"\bich (?:lehne (?:diese|ihre|deine|das)\b[^.\n]{0,30}\bab\b|weigere mich)",
        r"\bich bin (?:leider )?nicht (?:befugt|berechtigt|autorisiert)",
        r"\bich muss (?:das|dies) (?:leider )?ablehnen",
    ),
    "russian": (
        r"\bя (?:не вправе|не уполномочен[а]?) (?:обсуждать|раскрывать|давать|предоставлять|делиться)",
        r"\bпротиворечит мо(?:им|ей) (?:\w+ )?(?:правилам|принципам|политике|инструкциям)",
        r"^как (?:языковая модель|ии\b|искусственный интеллект)[^.\n]{0,60}\bя не ",
        r"\bя отказываюсь (?:помогать|писать|создавать|отвечать|участвовать)",
    ),
    "chinese": (
        r"违反(?:了)?我的(?:使用)?(?:政策|准则|原则|规定|指南)",
        r"(?:作为|身为)(?:一个|一名)?(?:人工智能|AI|语言模型)[^。\n]{0,20}(?:无法|不能|没有)",
        r"我(?:必须|不得不)?拒绝(?:回答|提供|编写|生成|协助|这个|您|你)",
        r"超出(?:了)?我(?:的|能)[^。\n]{0,6}(?:范围|能力)",
    ),
    "arabic": (
        r"(?:يخالف|تخالف|ينتهك|يتعارض مع) (?:سياساتي|إرشاداتي|مبادئي|قواعدي)",
        r"بصفتي (?:نموذج|ذكاء|مساعد)[^.\n]{0,30}(?:لا|ليس)",
        r"(?:يجب|علي) أن أرفض",
        r"أرفض (?:المساعدة|كتابة|تقديم|الإجابة)",
        r"لن أساعد(?:ك|كم) في",
    ),
    "hindi": (
        r"मेरे (?:दिशानिर्देशों|दिशा-निर्देशों|नियमों|नीतियों|सिद्धांतों) के (?:खिलाफ|ख़िलाफ़|विरुद्ध)",
        r"(?:भाषा मॉडल|एआई|AI)[^।\n]{0,40}(?:मैं|मेरे पास|मुझे)[^।\n]{0,60}नहीं",
        r"मुझे (?:यह|इस|आपके|आपका) अनुरोध (?:को )?अस्वीकार",
    ),
    "bengali": (
        r"আমার (?:নির্দেশিকা|নীতিমালা|নীতি|নিয়ম)\w*র? বিরুদ্ধে",
        r"(?:ভাষা মডেল|এআই|কৃত্রিম বুদ্ধিমত্তা)[^।\n]{0,24}(?:হিসেবে|হিসাবে)[^।\n]{0,20}আমা?(?:র|ি)[^।\n]{0,60}(?:নেই|পারি না|পারব না)",
        r"আমি (?:একটি|একজন|শুধু একটি) (?:এআই|ভাষা মডেল|কৃত্রিম)[^।\n]{0,60}(?:আমার[^।\n]{0,30}নেই|পারি না|পারব না)",
        r"আমাকে (?:এই|আপনার) অনুরোধ\S{0,3} (?:প্রত্যাখ্যান|নাকচ|অস্বীকার)",
    ),
    "urdu": (
        r"میر[یے] (?:ہدایات|پالیسی|اصولوں|رہنما اصولوں) کے خلاف",
        r"(?:لسانی ماڈل|زبان کے ماڈل|اے آئی)[^۔\n]{0,40}(?:میں|مجھے|میرے)[^۔\n]{0,60}نہیں",
        r"مجھے (?:یہ|اس|آپ کی) درخواست",
    ),
    "indonesian": (
        r"\b(?:melanggar|bertentangan dengan) (?:pedoman|kebijakan|aturan|prinsip) saya",
        r"^sebagai (?:sebuah )?(?:model bahasa|ai\b|asisten)[^.\n]{0,40}saya tidak",
        r"\bsaya (?:harus |terpaksa )?menolak (?:permintaan|untuk|membantu|membuat)",
        r"\bsaya tidak (?:bisa|dapat) membantu (?:hal|dalam|membuat)",
    ),
    "japanese": (
        r"私の(?:ガイドライン|ポリシー|方針|規約)に(?:反|違反)",
        r"(?:AI|言語モデル|人工知能)(?:として|なので|であるため)[^。\n]{0,40}(?:できません|ありません)",
        r"お断り(?:します|いたします|させていただ)",
        r"(?:ご?質問|お問い合わせ)に(?:は)?(?:お)?答え(?:でき|られ)ません",
    ),
}

# Words of which every refusal in a language contains one: without them its patterns need not run.
CUES = {
    "english": (
        "n't",
        "not ",
        "not;",
        "not,",
        "unable",
        "declin",
        "refus",
        "an ai",
        "against",
        "rather",
        "ethical",
        "priate",
        "outside",
        "beyond",
        "prevent",
        "prohibit",
        "forbid",
        "pass on",
        "that i ",
        "something i ",
        "contrary",
        "violat",
        "conflict",
        "breach",
        "lack ",
        "no way to",
        "no can do",
        "illegal",
        "irrespons",
        "prefer",
    ),
    "chinese": ("无法", "無法", "不能", "不可", "不会", "不會", "没办法", "沒辦法", "违反", "拒绝", "超出", "没有"),
    "hindi": ("नहीं", "असमर्थ", "खिलाफ", "ख़िलाफ़", "विरुद्ध", "अस्वीकार"),
    "spanish": (
        "puedo",
        "podr",
        "podemos",
        "es posible",
        "soy capaz",
        "autorizad",
        "estoy en",
        "rechazar",
        "declinar",
        "me niego",
        "mis ",
        "como ",
        "imposible",
    ),
    "french": ("je ", "m'est", "mes ", "en tant"),
    "arabic": ("لا ", "لن ", "أرفض", "سياساتي", "إرشاداتي", "مبادئي", "قواعدي", "بصفتي"),
    "bengali": ("না", "নয়", "নয়", "বিরুদ্ধে", "নেই", "অনুরোধ"),
    "portuguese": ("não", "receio", "recus", "minhas ", "como "),
    "russian": ("не ", "отказ", "противоречит"),
    "urdu": ("نہیں", "قاصر", "خلاف", "درخواست"),
    "indonesian": ("tidak ", "tak ", "saya"),
    "german": ("ich ", "gegen meine"),
    "japanese": ("ません", "かねます", "ガイドライン", "ポリシー", "方針", "規約", "お断り"),
}

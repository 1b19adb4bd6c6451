"""Prompts that nothing is wrong with, in many languages: phrases put together at random, and awkward ones by hand."""

import random

PHRASES = {
    "English": (
        "a red robot|an old fisherman|two children|the last train|a herd of wild horses|my neighbour's dog|Dr. Watson",
        "walks home|is turning slowly|waits for the others|can't find the way|opens a door|looks at the sea",
        "in the rain|under neon signs|on a narrow bridge|beside a glass tower|through tall grass|at the harbour",
        "4K, 24-70mm f/1.8|shot on film, 1970s|wide angle, e.g. from a drone|golden hour (soft light)|3D render",
    ),
    "German": (
        "ein großer Roboter|die müde Bäckerin|zwei Mädchen|der letzte Zug|eine Herde Pferde|Käthes Hund|ein Bär",
        "läuft nach Hause|dreht sich langsam|öffnet eine Tür|schaut über die Dächer|hört Musik|fährt übers Land",
        "im Regen|unter Leuchtreklamen|auf einer schmalen Brücke|neben einem Turm aus Glas|durch hohes Gras",
        "ruhige Kamerafahrt|weiches Licht am Abend|wie im Stummfilm|Nahaufnahme, 50 mm|schöne Farben",
    ),
    "French": (
        "un vieux pêcheur|la boulangère|deux élèves|le dernier métro|une forêt enneigée|l'été indien|un hérisson",
        "rentre à la maison|tourne lentement|s'arrête devant l'église|traverse la rivière|n'attend personne",
        "sous la pluie|près d'un château|à côté du marché|au bord de la mer|derrière les façades grises",
        "lumière dorée|plan large, caméra à l'épaule|comme dans les années 70|très détaillé|noir et blanc",
    ),
    "Spanish": (
        "un niño pequeño|la señora mayor|dos jóvenes|el último tren|una montaña nevada|mi vecino|un pájaro azul",
        "camina despacio|vuelve a casa|abre la puerta|mira el océano|espera el autobús|baila en la plaza",
        "bajo la lluvia|junto al puente|en la cocina|entre los árboles|sobre los tejados de la ciudad",
        "luz cálida|cámara en mano|película antigua|con muchos detalles|año 1950, blanco y negro",
    ),
    "Italian": (
        "un vecchio pescatore|la nonna|due ragazzi|l'ultimo treno|una città sul mare|il gatto del vicino",
        "torna a casa|gira lentamente|apre la finestra|guarda l'orizzonte|attraversa la piazza|aspetta l'autobus",
        "sotto la pioggia|vicino al castello|lungo il fiume|tra gli alberi|davanti alla chiesa",
        "luce calda|molto dettagliato|qualità cinematografica|riprese dall'alto|com'era una volta",
    ),
    "Portuguese": (
        "um menino|a avó|dois irmãos|o último comboio|uma praia deserta|o cão do vizinho|um pássaro",
        "anda devagar|volta para casa|abre a janela|olha para o céu|atravessa a estação|espera à porta",
        "à chuva|junto à ponte|na cozinha|entre as árvores|em frente ao mar|ao pôr do sol",
        "luz suave|câmara lenta|muito detalhado|cores vivas|película dos anos 60",
    ),
    "Dutch": (
        "een oude visser|twee kinderen|de laatste trein|een kudde paarden|de hond van de buren|een fietser",
        "loopt naar huis|draait langzaam|wacht op de anderen|opent een deur|kijkt naar de zee",
        "in de regen|onder neonlicht|op een smalle brug|naast een glazen toren|bij de haven van Zuid-Holland",
        "zacht licht|veel details|rustige camera|zwart-wit|vanuit de lucht",
    ),
    "Swedish": (
        "en röd robot|en gammal fiskare|två barn|det sista tåget|en hjord hästar|grannens hund|en älg",
        "går hem|vänder sig om|öppnar en dörr|tittar på havet|väntar på bussen|sjunger en sång",
        "i regnet|på en smal väg|bredvid en våg av glas|genom högt gräs|vid hamnen",
        "mjukt ljus|många detaljer|lugn kamera|svartvitt|från luften",
    ),
    "Danish": (
        "en rød robot|en gammel fisker|to børn|det sidste tog|naboens hund|en dreng, der kan høre havet",
        "går hjem|åbner en dør|ser på havet|venter på bussen|synger en sang",
        "i regnen|på en smal bro|ved siden af et tårn|gennem højt græs|ved havnen",
        "blødt lys|mange detaljer|roligt kamera|sort-hvid|fra luften",
    ),
    "Polish": (
        "stary rybak|dwoje dzieci|ostatni pociąg|stado koni|pies sąsiada|dziewczynka z parasolem",
        "wraca do domu|obraca się powoli|otwiera drzwi|patrzy na morze|czeka na przyjaciół|łowi ryby",
        "w deszczu|pod neonami|na wąskim moście|obok szklanej wieży|w wysokiej trawie|nad jeziorem",
        "miękkie światło|dużo szczegółów|spokojna kamera|czarno-białe|widok z góry",
    ),
    "Turkish": (
        "yaşlı bir balıkçı|iki çocuk|son tren|komşunun köpeği|kırmızı bir robot|güzel bir kuş",
        "eve yürüyor|yavaşça dönüyor|kapıyı açıyor|denize bakıyor|otobüsü bekliyor",
        "yağmurda|ışıkların altında|dar bir köprüde|cam bir kulenin yanında|ağaçların arasında",
        "yumuşak ışık|çok ayrıntılı|sakin kamera|siyah beyaz|havadan çekim",
    ),
    "Vietnamese": (
        "một ông lão đánh cá|hai đứa trẻ|chuyến tàu cuối cùng|con chó của hàng xóm|một cô gái áo đỏ",
        "đi bộ về nhà|quay chậm rãi|mở cánh cửa|nhìn ra biển|chờ xe buýt",
        "dưới mưa|trên cây cầu nhỏ|bên cạnh tòa tháp|giữa cánh đồng lúa|gần bến cảng",
        "ánh sáng dịu|rất chi tiết|máy quay chuyển động chậm|đen trắng|nhìn từ trên cao",
    ),
    "Russian": (
        "старый рыбак|двое детей|последний поезд|табун лошадей|соседская собака|Ной и его ковчег|сом в реке",
        "идёт домой|медленно поворачивается|открывает дверь|смотрит на море|ждёт друзей|убирает сор",
        "под дождём|у светящейся вывески|на узком мосту|на рее корабля|в высокой траве|у окна",
        "мягкий свет|много деталей|4K, съёмка с дрона|чёрно-белое кино|XX век, хор и оркестр",
    ),
    "Ukrainian": (
        "старий рибалка|двоє дітей|останній потяг|сусідський пес|дівчина з парасолею|їжак",
        "йде додому|повільно обертається|відчиняє двері|дивиться на море|чекає на друзів",
        "під дощем|на вузькому мосту|біля скляної вежі|у високій траві|над річкою",
        "м'яке світло|багато деталей|чорно-білий фільм|зйомка з дрона|спокійна камера",
    ),
    "Greek": (
        "ένας γέρος ψαράς|δύο παιδιά|το τελευταίο τρένο|ο σκύλος του γείτονα|μια κόκκινη βάρκα|ο ουρανός",
        "γυρίζει στο σπίτι|ανοίγει μια πόρτα|κοιτάζει τη θάλασσα|περιμένει το λεωφορείο|χορεύει",
        "στη βροχή|σε ένα στενό γεφύρι|δίπλα σε έναν πύργο|στο λιμάνι|κάτω από τα φώτα",
        "απαλό φως|πολλές λεπτομέρειες|ασπρόμαυρο|λήψη από ψηλά|ήρεμη κάμερα",
    ),
    "Chinese": (
        "一个老渔夫|两个孩子|最后一班火车|一群野马|邻居的狗|红色的机器人",
        "走回家|慢慢地转身|打开一扇门|望着大海|等朋友",
        "在雨中|在霓虹灯下|在窄桥上|在玻璃塔旁边|在高高的草丛里",
        "柔和的光线|4K画质|细节丰富|黑白电影|无人机航拍",
    ),
    "Japanese": (
        "赤いロボットが|年老いた漁師が|Tシャツの子供が|最後の列車が|隣の犬が|コーヒーカップを持つ人が",
        "家に帰る|ゆっくり回る|ドアを開ける|海を見ている|バスを待つ",
        "雨の中で|ネオンの下で|狭い橋の上で|ガラスの塔のそばで|高い草の中で",
        "やわらかい光|4Kで|細部まで丁寧に|白黒映画のように|ドローン撮影",
    ),
    "Korean": (
        "늙은 어부가|두 아이가|마지막 기차가|이웃집 개가|빨간 로봇이",
        "집으로 걸어간다|천천히 돈다|문을 연다|바다를 본다|버스를 기다린다",
        "빗속에서|네온사인 아래에서|좁은 다리 위에서|유리 탑 옆에서|높은 풀밭에서",
        "부드러운 빛|4K 화질|자세하게|흑백 영화처럼|드론 촬영",
    ),
    "Arabic": (
        "صياد عجوز|طفلان صغيران|آخر قطار|كلب الجيران|روبوت أحمر|حصان أبيض",
        "يمشي إلى البيت|يدور ببطء|يفتح الباب|ينظر إلى البحر|ينتظر الحافلة",
        "تحت المطر|فوق جسر ضيق|بجانب برج من الزجاج|بين الأشجار|قرب الميناء",
        "ضوء ناعم|تفاصيل كثيرة|أبيض وأسود|تصوير من الجو|كاميرا هادئة",
    ),
    "Persian": (
        "ماهیگیر پیر|دو کودک|آخرین قطار|سگ همسایه|ربات قرمز",
        "به خانه می‌رود|آرام می‌چرخد|در را باز می‌کند|به دریا نگاه می‌کند",
        "زیر باران|روی پل باریک|کنار برج شیشه‌ای|میان درختان",
        "نور ملایم|با جزئیات|سیاه و سفید|تصویر از بالا",
    ),
    "Hebrew": (
        "דייג זקן|שני ילדים|הרכבת האחרונה|הכלב של השכן|רובוט אדום",
        "הולך הביתה|מסתובב לאט|פותח דלת|מביט בים|מחכה לאוטובוס",
        "בגשם|על גשר צר|ליד מגדל זכוכית|בין העצים|בנמל",
        "אור רך|הרבה פרטים|שחור לבן|צילום מהאוויר|מצלמה רגועה",
    ),
    "Hindi": (
        "एक बूढ़ा मछुआरा|दो बच्चे|आख़िरी ट्रेन|पड़ोसी का कुत्ता|एक लाल रोबोट",
        "घर जा रहा है|धीरे-धीरे घूमता है|दरवाज़ा खोलता है|समुद्र को देखता है|बस का इंतज़ार करता है",
        "बारिश में|एक पतले पुल पर|काँच की मीनार के पास|पेड़ों के बीच|बंदरगाह पर",
        "नरम रोशनी|बहुत बारीकी से|श्वेत-श्याम फ़िल्म|ऊपर से दृश्य|शांत कैमरा",
    ),
    "Thai": (
        "ชาวประมงชรา|เด็กสองคน|รถไฟขบวนสุดท้าย|สุนัขของเพื่อนบ้าน|หุ่นยนต์สีแดง",
        "เดินกลับบ้าน|หมุนช้าๆ|เปิดประตู|มองทะเล|รอรถเมล์",
        "กลางสายฝน|บนสะพานแคบ|ข้างหอคอยแก้ว|ในทุ่งหญ้า|ที่ท่าเรือ",
        "แสงนุ่มนวล|รายละเอียดสูง|ขาวดำ|ภาพมุมสูง|กล้องนิ่ง",
    ),
}
JOINED = {"Chinese": ("", "，"), "Japanese": ("", "、"), "Thai": ("", " ")}
"""Between phrases, and before the last one, where languages have no spaces."""

AWKWARD = (
    "a neon sign that spells H O T E L in the fog",
    "the letters U. S. A. on a wall, and S.O.S. beside them",
    "he'll say she'll come, but they're late and who're they? It's rock'n'roll, y'all",
    "T-shirt & jeans, black/white and/or grey; 50% off, A+ (see fig. 3b) @ 5 p.m.",
    "H.264, 1080p@60fps, #cinematic ~10 s, <lora:rain:0.8>, ((masterpiece)), [wet | dry]",
    "two flags 🇩🇪🇫🇷 and one 🇯🇵, a party 🎉🎉, a heart ❤️, thumbs 👍🏽, a family 👨‍👩‍👧",
    "30 °C, ½ cup, №5, Ⅳ. century, 5 × 5 m², €20, £3.50, ¥500, © 2024, 7¢, §5",
    "“quoted”, ‘single’, «guillemets», „low“, … and — dashes – everywhere",
    "hmmm, sooo beautiful!!! brrr, zzz... aaah, wooow, yesss",
    "formula: E = mc², x_1 + x_2 → y, f(x) = a·x + b, ∑ and ∞ and √2, π ≈ 3.14",
    "Beyoncé in a café, a naïve façade, jalapeño, crème brûlée, piñata and Motörhead",
    "iPhone 15 Pro, PlayStation 5, B-52, AK-47, MP3, R2-D2, C-3PO, 7-Eleven, WD-40, Boeing 747-8",
    'Pamela said: "I\'d like 2-3 of them, i.e. a few"; Tom & Jerry; Q&A; R&B; AT&T; &amp; 100%25',
    "a street in Moscow, a sign says ХОР, Кафе «Нева» and Metro",
    "Vitamin B12, H2O, CO2, 4x4, 16:9, 3,5-fach, 24/7, 9-5, 10th, 2nd, 1990s, '80s",
    "https://example.org/a-b_c?d=e&f=g#h and user.name@example.org",
    "a b c d e f g, one by one; x, y and z; A B C; do re mi",
    "an o x and a n d; i i i; 1 2 3 4 5",
    "МУЗЕЙ, ТЕАТР, КАФЕ и НОВЫЙ ДОМ",
    "ΑΘΗΝΑ και ΘΕΣΣΑΛΟΝΙΚΗ, το παλιό λιμάνι",
)


def prompts(number: int) -> list[tuple[str, str]]:
    """At least `number` different ones with their language, as many in each."""
    draw = random.Random(0)
    made: dict[str, str] = {}
    for language, slots in PHRASES.items():
        space, pause = JOINED.get(language, (" ", ", "))
        own: set[str] = set()
        while len(own) < -(-number // len(PHRASES)):
            *start, end = (draw.choice(slot.split("|")) for slot in slots)
            text = space.join(start) + pause + end
            own.add(draw.choice([text, text[0].upper() + text[1:] + "."]))
        made |= dict.fromkeys(sorted(own), language)
    return list(made.items())

"""The wordings of the picture world: for every word of scenes.py, how people may say it in Chinese and in English."""

# -- Chinese --

HAIR_COLOR = {
    "black": ("黑色", "黑色", "乌黑", "墨黑"),
    "purple": ("紫色", "紫色", "淡紫色"),
    "gold": ("金色", "金色", "金黄色"),
    "red": ("红色", "红色", "火红"),
    "blue": ("蓝色", "蓝色", "天蓝色"),
}
HAIR_ONLY = {"black": "黑发", "purple": "紫发", "gold": "金发", "red": "红发", "blue": "蓝发"}
HAIR_LENGTH = {
    "short": ("短发", "短发", "短头发"),
    "medium": ("中等长度头发", "齐肩发", "齐肩头发", "中长发"),
    "long": ("长发", "长发", "长头发"),
}
COLOR = {
    "green": ("绿色", "绿色", "碧绿", "青绿"),
    "white": ("白色", "白色", "雪白", "素白"),
    "pink": ("粉色", "粉色", "粉红", "粉红色"),
    "black": ("黑色", "黑色", "墨黑"),
    "red": ("红色", "红色", "大红"),
    "blue": ("蓝色", "蓝色", "天蓝"),
    "yellow": ("黄色", "黄色", "鹅黄"),
}
GARMENT = {
    "long_dress": ("长裙", "长裙", "飘逸长裙", "古风长裙", "拖地长裙"),
    "dress": ("连衣裙", "连衣裙", "连身裙"),
    "strap_dress": ("吊带漏肩连衣裙", "吊带漏肩连衣裙", "吊带裙", "露肩吊带裙", "吊带连衣裙"),
    "gown": ("礼服", "礼服", "晚礼服", "礼服裙", "礼服，连衣裙"),
}
GARMENT_OPEN = ("裙子", "衣服", "衣裙")  # the kind of dress left out
WEARS = ("穿着", "穿着", "身穿", "身着", "穿")

GIRL = ("少女", "少女", "女孩", "小女孩", "姑娘", "女生", "小姑娘", "女孩子")
PRINCE = (
    "身穿银色盔甲的年轻王子", "身穿银甲的王子", "穿着银色盔甲的王子", "身披银甲的年轻王子",
    "银甲王子", "穿银色铠甲的王子", "王子",
)  # fmt: skip
HORSE = ("一匹白马", "一匹白色骏马", "一匹白色的马", "一匹高大的白马", "白马", "一匹漂亮的白马")
RIDES = (
    "骑着一匹白色骏马", "骑着一匹白色骏马从远处走来", "骑着白马", "骑在白马上", "骑着一匹白马", "骑白马而来",
    "骑马而来",
)  # fmt: skip
RIDES_TOGETHER = ("共骑一匹白马", "同骑一匹白马", "一起骑在白马上", "一起坐在马背上", "共乘一匹白色骏马")
PRINCE_EXTRA = ("手持长剑", "腰佩长剑", "神情坚定", "英姿飒爽")
HORSE_EXTRA = ("站着", "鬃毛飘动", "没有人", "身姿矫健")
COUPLE_EXTRA = ("王子手持缰绳", "王子穿银甲", "王子身穿银甲", "王子穿着银色盔甲")

# Things and places that tell one picture from another: the tokenizer keeps each of them whole.
THINGS = (
    "王子", "盔甲", "银甲", "银色", "白马", "骏马", "观众席", "演唱会", "练习室", "试衣间",
    "舞台", "台上", "流星", "沙发", "话筒", "毛笔", "竹简", "书桌", "桃花", "山野",
)  # fmt: skip
ACTION = {
    "stand": ("站着", "静静站立", "亭亭玉立", "面带微笑", "站立"),
    "listen": ("认真听讲", "盯着老师手中的竹简", "正在上课", "专心听课", "听老师讲课"),
    "sleep": ("伏在书桌上", "眼睛半闭", "显露出疲惫感", "趴在桌上睡着了", "打着瞌睡", "伏在桌上睡觉"),
    "wake": ("从书桌上抬起头", "眼神迷茫刚从梦中醒来", "刚从梦中醒来", "刚刚睡醒", "从桌上抬起头", "梦醒了"),
    "write": ("手握毛笔在书案上认真书写", "手握毛笔", "认真书写", "提笔写字", "用毛笔写字", "正在写字"),
    "bored": ("双手托着腮", "很无聊", "托腮发呆", "无聊地坐着", "在沙发上坐着", "坐在沙发上"),
    "watch": ("露出憧憬的神情", "坐在观众席", "看着舞台", "满脸憧憬", "看演唱会", "坐在演唱会的观众席"),
    "wish": ("许愿", "闭着眼睛", "十指交叉", "双手合十许愿", "侧面", "默默许愿"),
    "sing": ("唱歌", "手持话筒", "拿着话筒唱歌", "练习唱歌", "放声歌唱", "正在唱歌"),
    "nervous": ("心情忐忑", "忐忑不安", "神情紧张", "有些紧张"),
    "talk": ("微笑交谈", "彼此注视", "相谈甚欢", "面对面说话", "正在聊天", "站在路旁"),
    "ride": ("少女侧坐在马背上", "双手环抱王子的腰", "策马前行", "少女坐在前面", "少女侧坐"),
    "read": ("看书", "捧着一本书", "手里捧着打开的书", "认真看书", "静静地读书", "正在看书"),
    "dance": ("跳舞", "开心地跳舞", "翩翩起舞", "跳着舞", "快乐地跳起舞来", "正在跳舞"),
}
# What follows a place in an everyday sentence: 一个女孩在草地上开心的跳舞.
VERB = {
    "stand": ("", "站着", "微笑", "开心地笑", "玩", "散步", "等人"),
    "listen": ("上课", "听课", "认真听讲", "学习", "听老师讲课"),
    "sleep": ("睡觉", "睡着了", "打瞌睡", "趴着睡觉", "午睡"),
    "wake": ("刚睡醒", "醒来", "伸懒腰", "打哈欠"),
    "write": ("写字", "写毛笔字", "写作业", "练书法", "认真地写字", "画画"),
    "bored": ("发呆", "坐着", "坐在沙发上", "无聊地坐着", "休息"),
    "watch": ("看演唱会", "挥舞荧光棒", "看演出", "为偶像加油", "欢呼"),
    "wish": ("许愿", "闭着眼睛许愿", "祈祷", "静静地许愿"),
    "sing": ("唱歌", "开心地唱歌", "拿着话筒唱歌", "练习唱歌", "大声唱歌"),
    "nervous": ("很紧张", "紧张地等着", "担心", "害怕"),
    "talk": ("聊天", "开心地聊天", "说话", "约会", "见面"),
    "ride": ("骑马", "一起骑马", "骑着马"),
    "read": ("看书", "读书", "安静地看书", "认真地看书", "看一本书", "读故事"),
    "dance": ("跳舞", "开心的跳舞", "开心地跳舞", "快乐地跳舞", "蹦蹦跳跳", "翩翩起舞"),
}
STAR_WISH = ("对着流星许愿", "向流星许愿", "看着流星许愿")
# where: (places with a verb or preposition, nouns for "背景是…", details)
PLACE = {
    "academy": (
        (
            "坐在古代书院的教室里",
            "在书院里",
            "在古代书院",
            "在教室里",
            "在学堂里",
            "在书院的教室中",
            "站在教室中",
            "在课堂上",
            "在学校里",
            "在图书馆里",
        ),
        ("书院", "古代书院", "书院的木质书架和摆满书籍的桌子", "木质桌椅和古书架", "教室"),
        ("周围书籍散乱", "窗外夕阳透进来", "背景有木质桌椅和古书架", "书桌上的竹简散乱", "窗外阳光明媚", "满屋书香"),
    ),
    "peach": (
        (
            "站在一条青石板小路旁",
            "在桃花小路上",
            "在桃花林里",
            "在桃树下",
            "在青石板小路上",
            "站在桃花盛开的路旁",
            "在公园里",
            "在花园里",
            "在开满花的树下",
        ),
        ("桃花盛开的古风小路", "桃花小路", "桃花林", "盛开的桃花"),
        ("四周桃花盛开", "桃花纷飞", "背景是远处的古风建筑", "天空中有几朵淡云", "花瓣飘落", "桃花盛开"),
    ),
    "wild": (
        (
            "在山野里",
            "在古风山野",
            "在荒野上",
            "在旷野中",
            "在山间草地上",
            "在野外",
            "在草地上",
            "在草原上",
            "在山坡上",
            "在田野里",
        ),
        ("古风山野", "山野", "旷野", "荒凉的山野", "连绵的山坡"),
        ("背景为山野，桃花纷飞", "远山连绵", "野草随风", "山野辽阔"),
    ),
    "river": (
        ("在青山绿水间", "在河边", "在小河边", "在江畔", "在山水之间", "在溪水旁", "在湖边", "在水边"),
        ("青山绿水", "青山与河流", "青山绿水的风景", "小河"),
        ("山清水秀", "流水潺潺", "绿水环绕", "青山如黛"),
    ),
    "living": (
        ("在家中沙发上坐着", "在客厅里", "在家中", "在家里的客厅", "在家里", "在沙发旁", "在家", "在房间里"),
        ("客厅", "家中的客厅", "家里的沙发"),
        ("屋里有沙发", "家中很安静", "暖暖的灯光"),
    ),
    "concert": (
        (
            "坐在演唱会的观众席",
            "在演唱会的观众席",
            "在演唱会现场",
            "在演唱会上当观众",
            "坐在观众席上",
            "在演唱会",
            "在音乐会上",
        ),
        ("演唱会的观众席", "演唱会", "人山人海的观众席"),
        ("人山人海", "舞台上的歌星在唱歌", "舞台上衣着华丽的歌星们在唱歌", "演唱会的观众席", "周围都是观众"),
    ),
    "night": (
        ("在夜空下", "在星空下", "在夜色里", "在夜晚的草地上", "在满天繁星下", "在月光下", "在星星下面"),
        ("夜空", "星空", "有流星的夜空", "夜晚的天空"),
        ("流星划过夜空", "满天繁星", "夜色温柔", "天上有流星"),
    ),
    "practice": (
        ("在练习室", "在练习室里", "在声乐练习室", "在排练室", "在练习室练习", "在舞蹈室里", "在音乐教室里"),
        ("练习室", "排练室", "音乐练习室"),
        ("练习室很明亮", "练习室里有镜子", "练习室的木地板"),
    ),
    "fitting": (
        ("在试衣间", "在试衣间里", "在更衣室", "站在试衣间", "在试衣间的镜子前", "在衣帽间里", "在后台"),
        ("试衣间", "更衣室", "挂满衣服的试衣间"),
        ("试衣间", "试衣间挂着衣服", "试衣间的镜子"),
    ),
    "stage": (
        ("在台上", "在舞台上", "站在舞台中央", "在聚光灯下的舞台上", "站在台上", "在剧院里", "在晚会上"),
        ("舞台", "演出舞台", "灯光闪耀的舞台"),
        ("聚光灯照着舞台", "舞台灯光绚丽", "台上灯光闪烁"),
    ),
}
# The hour and the figure's side, where a caption says them; PLACE's details that only one hour has.
HOUR = {
    "morning": ("清晨", "早晨", "早上", "晨光"),
    "noon": ("中午", "白天", "正午", "天气晴朗"),
    "dusk": ("黄昏", "傍晚", "夕阳西下", "日落时分"),
}
HOUR_OF_DETAIL = {"窗外夕阳透进来": ("dusk",), "窗外阳光明媚": ("morning", "noon")}
SIDE = {
    -1: ("在画面左边", "人物在左侧"),
    0: ("在画面中间", "人物居中"),
    1: ("在画面右边", "人物在右侧"),
}
OPENING = ("这是一幅{}，画中", "{}：", "画一幅{}，", "一张{}，画面里有", "{}，画着", "用{}画出")
BACKDROP = ("背景是{}", "背景为{}", "{}", "背景：{}", "{}背景")
FRAMING = {
    "full": ("全身", "全身", "全身", "全身像", "全身照"),
    "half": ("上半身", "上半身", "上半身", "半身像", "半身"),
}
STYLE = {
    "plain": ("插画", "绘本", "绘本插画", "插图"),
    "ink": ("水墨画", "古风，水墨画", "古风，水墨画", "古风水墨画", "国画", "水墨风格", "中国水墨画", "水墨"),
    "oil": ("油画", "油画", "油画风格", "古典油画", "一幅油画"),
    "pencil": ("彩铅画", "铅笔画", "素描", "彩铅", "铅笔素描", "彩色铅笔画"),
    "watercolor": ("水彩画", "水彩画", "水彩", "水彩风格", "一幅水彩"),
    "papercut": ("剪纸", "剪纸画", "剪纸风格", "剪纸艺术", "中国剪纸"),
    "anime": ("二次元", "二次元", "二次元，日系动漫", "日系动漫", "二次元风格", "动漫风格"),
}
QUALITY = ("高质量", "精美", "细节丰富", "最佳质量", "高清", "画面干净", "杰作", "精致")
MOOD = (
    "古风", "唯美", "意境悠远", "微风轻拂", "氛围感", "光线柔和", "构图好看",
    "温馨", "宁静", "故事感", "好看", "有一点怀旧", "岁月静好", "今天星期三", "随便画画",
)  # fmt: skip
NEGATIVE = {
    "blur": ("模糊", "模糊不清", "失焦"),
    "noise": ("嘈杂", "噪点", "画面嘈杂"),
    "low_contrast": ("低对比度", "对比度低", "灰蒙蒙"),
    "deform": ("变形", "扭曲的手指", "多余的手指", "畸形", "扭曲的脸"),
}
NEGATIVE_ALL = ("丑陋", "变形", "嘈杂", "模糊", "低对比度", "扭曲的手指", "多余的手指", "低质量", "画质差")
NEGATIVE_LISTS = (
    "丑陋、变形、嘈杂、模糊、低对比度",
    "丑陋、变形、嘈杂、模糊、低对比度，扭曲的手指，多余的手指",
    "丑陋，变形，嘈杂，模糊，低对比度，扭曲的手指，多余的手指",
    "现代风格，数字画，丑陋，变形，嘈杂，模糊，低对比度，扭曲的手指，多余的手指",
)

# -- English --

EN_HAIR_COLOR = {"black": "black", "purple": "purple", "gold": "golden", "red": "red", "blue": "blue"}
EN_HAIR_LENGTH = {"short": ("short",), "medium": ("shoulder-length", "medium-length"), "long": ("long",)}
EN_GARMENT = {
    "long_dress": ("long dress", "flowing long dress"),
    "dress": ("dress", "one-piece dress"),
    "strap_dress": ("strap dress", "off-shoulder strap dress"),
    "gown": ("gown", "evening gown"),
}
EN_GIRL = ("girl", "girl", "young girl", "young woman")
EN_PRINCE = ("a prince in silver armor", "a young prince in silver armour", "a prince wearing silver armor", "a prince")
EN_HORSE = ("a white horse", "one white horse", "a horse", "a tall white horse")
EN_RIDES = ("riding a white horse", "on a white horse", "on horseback")
EN_RIDES_TOGETHER = ("riding one white horse together", "together on a white horse", "sharing a white horse")
EN_ACTION = {
    "stand": ("standing", "smiling", "standing still"),
    "listen": ("listening to the teacher", "listening carefully", "in class"),
    "sleep": ("asleep on the desk", "sleeping at the desk", "eyes half closed, tired"),
    "wake": ("raising her head from the desk", "just awake from a dream", "waking up"),
    "write": ("writing with a brush", "holding a brush, writing", "practising calligraphy"),
    "bored": ("bored", "sitting on the sofa, chin in hands", "resting her chin in her hands"),
    "watch": ("watching the show", "with a longing look", "sitting in the audience"),
    "wish": ("making a wish", "eyes closed, fingers laced", "wishing"),
    "sing": ("singing", "singing into a microphone", "holding a microphone"),
    "nervous": ("nervous", "feeling uneasy"),
    "talk": ("talking and smiling", "looking at each other", "chatting"),
    "ride": ("her arms around his waist", "riding side by side", "the girl sits sideways"),
    "read": ("reading a book", "holding an open book", "reading"),
    "dance": ("dancing", "dancing happily", "dancing for joy"),
}
EN_HOUR = {
    "morning": ("in the morning", "early morning"),
    "noon": ("at noon", "on a sunny day"),
    "dusk": ("at dusk", "at sunset"),
}
EN_PLACE = {
    "academy": ("in an ancient academy", "in a classroom of an old academy", "in a classroom with wooden bookshelves"),
    "peach": (
        "on a path of peach blossoms",
        "among peach blossoms",
        "under blooming peach trees",
        "in a park",
        "in a garden",
    ),
    "wild": ("in the wild mountains", "in the wilderness", "on a wild hillside", "on the grass", "in a meadow"),
    "river": ("by a river, green hills", "between green hills and clear water", "by the river", "by a lake"),
    "living": ("in the living room", "at home on the sofa", "at home", "in a room"),
    "concert": ("in the audience of a concert", "at a concert, huge crowd", "among the concert audience"),
    "night": ("under the night sky", "under a shooting star at night", "under the stars"),
    "practice": ("in a practice room", "in the rehearsal room"),
    "fitting": ("in a fitting room", "in the dressing room"),
    "stage": ("on stage", "on the stage under spotlights"),
}
EN_FRAMING = {"full": ("full body", "full-length"), "half": ("upper body", "half body", "waist up")}
EN_STYLE = {
    "plain": ("illustration", "picture book"),
    "ink": ("ink wash painting", "Chinese ink painting", "ink wash painting"),
    "oil": ("oil painting",),
    "pencil": ("pencil drawing", "colored pencil drawing", "pencil sketch"),
    "watercolor": ("watercolor", "watercolor painting", "watercolour"),
    "papercut": ("paper cut", "papercut art", "paper-cut"),
    "anime": ("anime", "anime style", "Japanese anime"),
}
EN_QUALITY = ("high quality", "masterpiece", "best quality", "detailed")
EN_MOOD = ("calm", "soft light", "lovely", "quiet mood", "a nice day", "old times")
EN_NEGATIVE = {
    "blur": ("blurry", "out of focus"),
    "noise": ("noisy", "grainy"),
    "low_contrast": ("low contrast", "washed out"),
    "deform": ("deformed", "bad hands", "extra fingers", "bad anatomy"),
}
EN_NEGATIVE_ALL = ("ugly", "deformed", "noisy", "blurry", "low contrast", "bad hands", "extra fingers", "low quality",
                   "worst quality")  # fmt: skip

# Where the action alone tells the place, as in "伏在书桌上": there the place is often left out.
TELLS_PLACE = {("write", "academy"), ("wish", "night")}
TELLS_PLACE |= {("listen", "academy"), ("sleep", "academy"), ("wake", "academy"), ("bored", "living")}
TELLS_PLACE |= {("watch", "concert"), ("nervous", "fitting")}
CHARACTERS = [bytes((row, cell)).decode("gb2312") for row in range(0xB0, 0xD7) for cell in range(0xA1, 0xFA)]
WORLD_TEXT = str((HAIR_COLOR, COLOR, HAIR_LENGTH, GARMENT, GIRL, PRINCE, HORSE, PLACE, FRAMING, STYLE, NEGATIVE_ALL))

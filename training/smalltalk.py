"""What the guide hears besides questions about Perch: greetings, thanks, and everything that it does not know."""

GREETINGS = {
    "Hello! I am Perch's guide. Ask me how to start the server, connect a client or load a model.": [
        "Hi", "Hello", "Hey", "Good morning", "Good evening", "hi there", "Hello there!", "hey guide", "Greetings",
        "good day", "yo", "hi!", "Hello, how are you?", "How are you?", "What's up?", "hiya", "Hi, nice to meet you"],
    "You are welcome!": [
        "Thanks", "Thank you", "thanks a lot", "Thank you very much", "great, thanks", "Thanks for your help", "ty",
        "cool, thank you", "many thanks", "That helped, thanks", "Perfect, thank you!", "thx"],
    "Goodbye! Perch keeps serving until you stop it.": [
        "Bye", "Goodbye", "See you", "bye bye", "See you later", "That's all", "I'm done", "good night", "cu"],
    "Good. Ask me when you need something else about Perch.": [
        "OK", "okay", "I see", "Got it", "Understood", "ok cool", "Alright", "makes sense", "Great", "Nice", "Good"],
}

UNKNOWN = ("I don't know that: I only know Perch. I can tell you how to start the server, connect a client, load a model or "
           "fix an error; for other questions install a larger model.")
UNKNOWN_TASK = ("I don't know how to do that: I am a very small model and only know Perch. Install a larger model for writing, code and "
                "translation; I can tell you how.")
# How requests for work begin; other questions ask for knowledge.
TASK_WORDS = ("Write ", "Can you write", "Help me with {code}", "Fix ", "Show me {code}", "Code ", "Please compose", "Translate ", "How do you say",
              "Debug ", "What is wrong with {code}", "How do I write {code}", "Explain {code}", "Make {code}", "Summarise", "Correct my", "Plan my",
              "Compose", "Rewrite", "Proofread", "Draft ", "Generate {", "Refactor", "Count to ten", "I need help with my homework")
THINGS = {
    "product": ("Photoshop;Excel;Word;Chrome;Firefox;Spotify;Slack;Git;PostgreSQL;Kubernetes;Minecraft;WhatsApp;Blender;Midjourney;"
                "Windows Update;Outlook;Zoom;Netflix;Jenkins;WordPress;Unity;Figma;Notion;Steam;iTunes").split(";"),
    "number": [str(n) for n in range(101, 4000, 37)],
    "ailment": "a headache;a cold;back pain;a fever;a toothache;insomnia;an allergy;a cough;a burn;stress;a rash;hiccups".split(";"),
    "gear": "a bicycle;a washing machine;a guitar;a camera;a tent;a sofa;a watch;a violin;a car;a printer;a drill;a piano".split(";"),
    "country": "France Spain Peru Japan Kenya Norway India Brazil Canada Egypt Poland Chile Ghana Nepal Italy Cuba".split(),
    "person": "Einstein Mozart Picasso Newton Shakespeare Napoleon Cleopatra Gandhi Bach Darwin Plato Tesla".split(),
    "food": "pancakes;bread;tomato soup;pizza;a cake;rice;an omelette;lasagne;curry;cookies;sushi;pasta".split(";"),
    "animal": "cats dogs whales bees elephants spiders owls penguins horses sharks ants dolphins".split(),
    "topic": ("black holes;photosynthesis;the French revolution;gravity;inflation;the moon;quantum physics;vaccines;volcanoes;"
              "democracy;dinosaurs;the stock market;climate change;evolution;the Roman empire;music theory;philosophy;chess;"
              "football;electricity;the brain;DNA;the ocean;poetry;art;religion;history;biology;economics").split(";"),
    "code": ("a sorting function;a web page;a regular expression;a SQL query;a Rust program;a shell script;a React component;"
             "a game;a Python class;unit tests;a binary search;a parser").split(";"),
    "writing": ("a poem;a story;an essay;a letter;a song;a joke;an email to my boss;a haiku;a speech;a blog post;a CV;"
                "a product description").split(";"),
    "language": "German French Spanish Japanese Chinese Latin Russian Italian Arabic Greek Korean Polish".split(),
    "phrase": "good morning;I love you;thank you;where is the station;the weather is nice;my name is Anna;see you".split(";"),
}
OFF_TOPIC = """What is the capital of {country}?|Where is {country}?|How many people live in {country}?|Tell me about {country}.
Who was {person}?|When was {person} born?|What did {person} do?|Tell me about {person}.|When did {person} die?
How do I cook {food}?|Give me a recipe for {food}.|What goes into {food}?|How long do I bake {food}?
Why do {animal} sleep?|How long do {animal} live?|What do {animal} eat?|Tell me about {animal}.|Are {animal} dangerous?
Explain {topic}.|What is {topic}?|Tell me about {topic}.|How does {topic} work?|Why is {topic} important?|What do you know about {topic}?
Write {code}.|Can you write {code} for me?|Help me with {code}.|Fix {code}.|Show me {code} in Java.|Code {code}
Write {writing}.|Write {writing} about {topic}.|Can you write {writing}?|Please compose {writing} about {animal}.
Translate "{phrase}" into {language}.|How do you say "{phrase}" in {language}?|Teach me {language}.|Do you speak {language}?
What is the weather today?|Will it rain tomorrow?|What time is it?|What day is it today?|Who won the match yesterday?
What is the meaning of life?|Tell me a joke.|Sing a song.|What is the news?|Who is the president?|What is love?|Are you happy?
Which film should I watch?|Recommend a book.|What should I eat today?|How do I lose weight?|What should I wear?|Do you like music?
How tall is the Eiffel tower?|How far away is the moon?|How deep is the ocean?|How old is the universe?|What is the largest planet?
Summarise this article.|Correct my grammar.|Plan my holiday.|What car should I buy?|How do I learn to swim?|My head hurts.
How do I fix my bicycle?|What is a good name for a dog?|Where can I buy shoes?|How do I get a visa?|Who invented the wheel?
Is there life on Mars?|Why is the sky blue?|What is the speed of light?|How do planes fly?|Who painted the Mona Lisa?
What is the best restaurant in {country}?|Book me a flight to {country}.|What currency do they use in {country}?|Is {country} cheap?
Which language do people speak in {country}?|When should I travel to {country}?|How large is {country}?|Who rules {country}?
Was {person} married?|Where did {person} live?|What is {person} famous for?|Name a book about {person}.|Was {person} clever?
Is {food} healthy?|What can I drink with {food}?|How many calories has {food}?|Where does {food} come from?|I want to make {food}.
Can {animal} swim?|How fast are {animal}?|What sound do {animal} make?|Do {animal} dream?|How big do {animal} get?|Draw {animal}.
Give me a quiz about {topic}.|Summarise {topic} for a child.|Who discovered {topic}?|Is {topic} hard to learn?|When did {topic} begin?
I need help with my homework about {topic}.|Write three facts about {topic}.|What is new in {topic}?|Teach me {topic}.
Debug {code} for me.|What is wrong with {code}?|How do I write {code} in C++?|Explain {code} line by line.|Make {code} faster.
What does "{phrase}" mean in {language}?|Is {language} difficult?|Write "{phrase}" in {language}.|Count to ten in {language}.
How do I tie a tie?|How do I grow tomatoes?|What is my name?|Where am I?|How old am I?|Call my mother.
Play some music.|Open YouTube.|Turn on the light.|Send an email to Tom.|What is on television?|Find me a job.|Are aliens real?
Which team will win?|What is the best phone?|How do I get rich?|Should I buy bitcoin?|Who will win the election?|Is it Friday?
How do I remove a wine stain?|What is a black hole?|How many planets are there?|What is the boiling point of water?|Do you love me?
How do I repair a broken window?|How do I start a car?|How do I stop smoking?|How do I connect two wires?|Where is the train station?
Which port does a ship use?|What does a waiter serve?|How do I open a bank account?|How do I train my dog?|What models work in Paris?
How do I install {product}?|How does {product} work inside?|How do I update {product}?|Why does {product} crash?|What does {product} cost?
Who makes {product}?|How do I uninstall {product}?|Where does {product} store its settings?|How do I log in to {product}?|{product} is slow.
Is {product} better than {product}?|Which version of {product} is the newest?|{product} shows an error.|How do I use {product}?|{product} help
What is {number} times {number}?|What is {number} divided by 7?|What is the square root of {number}?|Is {number} a prime number?
Solve x^2 = {number}.|What is {number} percent of 900?|Integrate x squared.|What is the derivative of sin x?|What is pi to ten digits?
What helps against {ailment}?|I have {ailment}.|Is {ailment} dangerous?|Which medicine is good for {ailment}?|How long does {ailment} last?
How do I repair {gear}?|Which is the best make of {gear}?|How much does {gear} cost?|How do I clean {gear}?|Where can I buy {gear}?
How do I git rebase?|How do I undo a git commit?|How do I exit vim?|What does HTTP 418 mean in general?|How do I centre a div?
How do I install Python on a Mac?|How do I install Linux?|How do I reset my Mac's password?|Which laptop should I buy?|How do I back up my phone?
How do I learn Rust?|What is a linked list?|What is the difference between TCP and UDP?|How does a compiler work?|What is Kubernetes good for?
How was GPT-4 trained?|Who founded OpenAI?|What is ChatGPT's system prompt?|How many parameters has GPT-4?|How does Claude work inside?
Is it legal to download films?|How do I pay less tax?|How do I write a will?|Can my landlord do that?|What are my rights at work?
How do I ask for a raise?|How do I make friends?|My boyfriend left me.|I feel lonely.|What should I name my baby?|Do you have feelings?
Are you alive?|Do you dream?|What is your favourite colour?|Where do you live?|How old are you?|Who is your mother?|Will you marry me?
Rewrite this sentence.|Proofread my essay.|Draft a contract.|Refactor my function.|Generate a password for my bank.|Compose a melody.
Tell me a secret.|Tell me a riddle.|Play chess with me.|Let's play a game.|Roll a die.|Flip a coin.|Guess my age.|Say something funny.
What happened today?|Who won the Oscar?|What are the lottery numbers?|When is Easter?|When does the sun set?|How many days until Christmas?
What's the exchange rate of the dollar?|How is the stock market?|What is the price of gold?|When is the next train?|Is the shop open?
asdfgh|blah blah|test test|????|lorem ipsum|hello world program|42""".replace("\n", "|").split("|")


def unknown(r) -> tuple[str, str]:
    """A question from outside Perch, and the answer."""
    ask = r.choice(OFF_TOPIC)
    answer = UNKNOWN_TASK if ask.startswith(TASK_WORDS) else UNKNOWN
    for kind, names in THINGS.items():
        ask = ask.replace("{" + kind + "}", r.choice(names))
    return ask, answer

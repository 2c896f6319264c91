import { announce, byId } from "./browser/dom.js";
import { Asking } from "./conversation/asking.js";
import { Composer } from "./conversation/composer.js";
import { Conversation } from "./conversation/conversation.js";
import { showCurl, startCurl } from "./conversation/curl.js";
import { startExamples } from "./conversation/examples.js";
import { headline } from "./conversation/figures.js";
import { startScrolling } from "./conversation/scrolling.js";
import { TurnView } from "./conversation/turn-view.js";
import { Keys } from "./server/keys.js";
import { Server } from "./server/server.js";
import { startServerView } from "./server/server-view.js";
import { startPanel } from "./settings/panel.js";
import { Settings } from "./settings/settings.js";
import { startTheme } from "./settings/theme.js";

const conversation = new Conversation();
const settings = new Settings();
const keys = new Keys();
const server = new Server();
/** @type {Map<object, TurnView>} */
const views = new Map();
let editing = false;
/** On a phone the focus would open the keyboard over the answer. */
const withKeyboard = matchMedia("(pointer: fine)").matches;

const asking = new Asking({ conversation, settings, keys, server, changed: (turn) => views.get(turn)?.update() });
const composer = new Composer({
  send: (question) => send(question),
  stop: () => asking.stop(),
  isBusy: () => asking.busy,
  editLast: () => edit(),
  cancelEdit: () => endEdit(""),
});
const scrolling = startScrolling();

function show(turn) {
  const view = new TurnView(turn, asking, {
    edit: () => edit(),
    retry: () => answer(turn),
    curl: () => showCurl(asking.bodyOf(turn), keys.key !== null),
  });
  views.set(turn, view);
  byId("conversation").append(view.root);
  view.render();
}

function showEmptiness() {
  byId("empty").hidden = conversation.turns.length > 0;
}

function send(question) {
  if (editing) dropLast();
  endEdit("");
  const turn = conversation.add(question);
  show(turn);
  showEmptiness();
  answer(turn);
}

async function answer(turn) {
  if (asking.busy) return;
  const done = asking.run(turn);
  document.body.dataset.busy = "";
  composer.show();
  scrolling.toEnd();
  announce("Asked. The answer is on its way.");
  await done;
  delete document.body.dataset.busy;
  composer.show();
  if (withKeyboard && document.activeElement === document.body) composer.focus();
  const { state, problem } = turn.answer;
  if (state === "failed") announce(problem, true);
  else announce(`${state === "done" ? "The answer is complete" : "Stopped"}. ${headline(turn.answer)}`);
}

function edit() {
  if (asking.busy || !conversation.last) return;
  editing = true;
  composer.set(conversation.last.question);
  composer.setEditing(true);
  composer.focus();
}

function endEdit(text) {
  editing = false;
  composer.set(text);
  composer.setEditing(false);
}

function dropLast() {
  const { last } = conversation;
  views.get(last)?.root.remove();
  views.delete(last);
  conversation.dropLast();
}

function startAgain() {
  asking.stop();
  conversation.clear();
  views.clear();
  byId("conversation").replaceChildren();
  endEdit("");
  showEmptiness();
  composer.focus();
  announce("A new conversation.");
}

byId("new-conversation").addEventListener("click", startAgain);
byId("show-curl").addEventListener("click", () => {
  const earlier = editing ? conversation.turns.slice(0, -1) : conversation.turns;
  showCurl(asking.body(earlier, byId("question").value.trim() || "Your question"), keys.key !== null);
});
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.isComposing || document.querySelector("dialog:modal")) return;
  if (asking.busy) asking.stop();
  else if (editing) endEdit("");
});

startTheme();
startPanel();
startCurl();
startServerView(server);
startExamples((question) => {
  composer.set(question);
  composer.focus();
});
for (const turn of conversation.turns) show(turn);
showEmptiness();
server.watch();
if (withKeyboard) composer.focus();

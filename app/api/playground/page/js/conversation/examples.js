import { byId, fromTemplate } from "../browser/dom.js";

const EXAMPLES = [
  ["Write a function", "Write a Python function that merges two sorted lists, with a docstring and two examples."],
  ["Explain some code", "What does this regular expression match? ^(?=.*\\d)[a-z\\d]{8,}$"],
  ["Find the bug", "Find the bug:\n\nfor (var i = 0; i < 3; i++) {\n  setTimeout(() => console.log(i), 0);\n}"],
  ["Compare in a table", "Compare lists, tuples and sets in Python in a short table."],
];

/** @param {(question: string) => void} choose */
export function startExamples(choose) {
  for (const [name, question] of EXAMPLES) {
    const item = fromTemplate("t-example");
    item.querySelector("strong").textContent = name;
    item.querySelector("span").textContent = question;
    item.querySelector("button").addEventListener("click", () => choose(question));
    byId("examples").append(item);
  }
}

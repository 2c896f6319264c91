import { announce, byId } from "../browser/dom.js";

const TITLES = {
  loading: "The model is loading. ",
  failed: "The model could not be loaded. ",
  unavailable: "The server takes no questions at the moment. ",
  unreachable: "The server cannot be reached. ",
  offline: "You are offline. ",
};
const SHORT = {
  checking: "connecting",
  loading: "loading",
  failed: "failed",
  unavailable: "unavailable",
  unreachable: "no connection",
  offline: "offline",
};

/** The chip in the bar and the banner above the conversation. @param {import("./server.js").Server} server */
export function startServerView(server) {
  let said = "";
  const show = () => {
    const { state } = server;
    byId("model").dataset.state = state;
    byId("model-name").textContent = state === "ready" ? server.model : SHORT[state];
    const title = TITLES[state] ?? "";
    byId("banner").hidden = !title;
    byId("banner").dataset.state = state;
    byId("banner-title").textContent = title;
    byId("banner-detail").textContent = detail(server);
    byId("banner-progress").hidden = state !== "loading";
    byId("banner-progress").value = server.progress;
    if (said !== state && (title || said)) announce(title || "The model is ready.");
    if (said !== state && state !== "checking") said = state;
  };
  server.addEventListener("change", show);
  show();
}

function detail({ state, detail: said, progress }) {
  if (state === "loading")
    return `${Math.round(progress * 100)} %${said ? `, ${said}` : ""}. You can ask already: the question goes out as soon as it can.`;
  if (state === "offline") return "The conversation is kept; questions go out when the connection is back.";
  if (state === "failed") return "The server's log says why.";
  return said || (state === "unreachable" ? "It is tried again by itself." : "");
}

import { byId } from "./dom.js";

const wide = matchMedia("(min-width: 70rem)");

/** The settings stand beside the conversation where there is room, and over it where there is none. */
export function startPanel() {
  const panel = byId("settings");
  const opener = byId("open-settings");
  const open = () => {
    if (wide.matches) panel.show();
    else panel.showModal();
    opener.setAttribute("aria-expanded", "true");
    document.body.dataset.panel = "";
  };
  panel.addEventListener("close", () => {
    opener.setAttribute("aria-expanded", "false");
    delete document.body.dataset.panel;
    opener.focus();
  });
  panel.addEventListener("keydown", (event) => {
    // A panel that is not modal has no Escape of its own, and here the key must not stop an answer.
    if (event.key !== "Escape") return;
    event.stopPropagation();
    panel.close();
  });
  opener.addEventListener("click", () => (panel.open ? panel.close() : open()));
  byId("close-settings").addEventListener("click", () => panel.close());
  byId("settings-form").addEventListener("submit", (event) => event.preventDefault());
  wide.addEventListener("change", () => {
    if (panel.open) {
      panel.close();
      open();
    }
  });
}

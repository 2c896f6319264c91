import { byId } from "../browser/dom.js";

const wide = matchMedia("(min-width: 70rem)");

/** The settings stand beside the conversation where there is room, and over it where there is none. */
export function startPanel() {
  const panel = byId("settings");
  const opener = byId("open-settings");
  const show = () => {
    opener.setAttribute("aria-expanded", String(panel.open));
    document.body.toggleAttribute("data-panel", panel.open);
  };
  const open = () => {
    if (wide.matches) panel.show();
    else panel.showModal();
    show();
  };
  // The focus moves now: at the close event, which comes later, the reader may have gone on to another control.
  const close = () => {
    panel.close();
    opener.focus();
    show();
  };
  panel.addEventListener("close", show); // also when the browser closed it
  panel.addEventListener("keydown", (event) => {
    // A panel that is not modal has no Escape of its own, and here the key must not stop an answer.
    if (event.key !== "Escape") return;
    event.stopPropagation();
    close();
  });
  opener.addEventListener("click", () => (panel.open ? close() : open()));
  byId("close-settings").addEventListener("click", close);
  byId("settings-form").addEventListener("submit", (event) => event.preventDefault());
  wide.addEventListener("change", () => {
    if (panel.open) {
      panel.close();
      open();
    }
  });
}

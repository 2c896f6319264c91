import { byId } from "../browser/dom.js";

const NEAR = 80; // pixels

/** Follows a growing answer for as long as its reader is at the end of the page. */
export function startScrolling() {
  const page = document.documentElement;
  const jump = byId("jump");
  let following = true;
  const atEnd = () => page.scrollHeight - innerHeight - scrollY < NEAR;
  const toEnd = () => scrollTo({ top: page.scrollHeight, behavior: "instant" });
  const show = () => {
    jump.hidden = atEnd();
  };
  addEventListener(
    "scroll",
    () => {
      following = atEnd();
      show();
    },
    { passive: true },
  );
  byId("conversation").addEventListener("grown", () => {
    if (following) toEnd();
    show();
  });
  jump.addEventListener("click", () => {
    toEnd();
    byId("question").focus({ preventScroll: true });
  });
  return {
    toEnd() {
      following = true;
      toEnd();
    },
  };
}

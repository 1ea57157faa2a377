// Runs before the page is drawn, so that it never flashes in the other colours.
(() => {
  let theme = "auto";
  try {
    theme = localStorage.getItem("nanorelay-theme") || "auto";
  } catch {
    // A browser that keeps nothing shows the system's colours.
  }
  document.documentElement.dataset.theme = theme;
})();

// In the search box, a word that starts with "-" would exclude pages: leave the hyphens out, so that --warmup finds its option.
document.addEventListener("input", ({ target }) => {
  if (target.matches(".md-search__input")) target.value = target.value.replace(/(^|\s)-+/g, "$1");
}, true);

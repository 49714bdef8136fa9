// Propose a short name while the name is typed. Without this the server makes it.
"use strict";

(() => {
  const slug = document.querySelector("[data-slug-from]");
  const name = slug && document.getElementById(slug.dataset.slugFrom);
  if (!name) return;
  let isOurs = slug.value === "";
  const made = (text) => text.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").toLowerCase().replace(/[^a-z0-9]+/g, "-").slice(0, 45).replace(/^-+|-+$/g, "");
  name.addEventListener("input", () => { if (isOurs) slug.value = made(name.value); });
  slug.addEventListener("input", () => { isOurs = slug.value === ""; });
})();

// One more row of participants in the form of a new meeting.
const rows = document.getElementById("rows");
const add = document.getElementById("add-row");

add.hidden = false;
add.addEventListener("click", () => {
  const number = rows.children.length + 1;
  const row = rows.lastElementChild.cloneNode(true);
  row.setAttribute("aria-label", add.dataset.label.replace("%s", number));
  for (const error of row.querySelectorAll(".error")) error.remove();
  for (const field of row.querySelectorAll(".wrong")) field.classList.remove("wrong");
  for (const input of row.querySelectorAll("input")) {
    const id = input.id.replace(/\d+$/, number);
    row.querySelector(`label[for="${input.id}"]`).htmlFor = id;
    input.id = id;
    input.value = "";
    for (const name of ["aria-invalid", "aria-describedby", "autofocus"]) input.removeAttribute(name);
  }
  rows.append(row);
  row.querySelector("input").focus();
});

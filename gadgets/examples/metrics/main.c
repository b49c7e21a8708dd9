// Counts, and tells nothing else: how many distinct system calls each container made, for Prometheus. The document is what
// node_exporter's textfile collector reads, and what `promtool check metrics` accepts.
//
// Every run has a fresh instance, whose memory goes with it: what is allocated here is not freed, except by the bindings.

#include <stdlib.h>

#include "guest.h"
#include "text.h"

enum { ABIS = 3, PHASES = 2 };

static const char *const abis[ABIS] = {
    [GADGET_FRAMEWORK_CAPTURES_ABI_NATIVE] = "native",
    [GADGET_FRAMEWORK_CAPTURES_ABI_COMPAT] = "compat",
    [GADGET_FRAMEWORK_CAPTURES_ABI_X32] = "x32",
};

static const struct {
    gadget_framework_captures_phases_t flag;
    const char *name;
} phases[PHASES] = {
    {GADGET_FRAMEWORK_CAPTURES_PHASES_APPLICATION, "application"},
    {GADGET_FRAMEWORK_CAPTURES_PHASES_RUNTIME, "runtime"},
};

// What the module says of itself.
void exports_gadget_framework_module_describe(exports_gadget_framework_module_description_t *ret) {
    gadget_framework_params_spec_t *prefix = calloc(1, sizeof *prefix);
    prefix->name = copy("prefix");
    prefix->help = copy("How the names of the metrics begin: letters, digits and underscores.");
    prefix->kind.tag = GADGET_FRAMEWORK_PARAMS_KIND_TEXT;
    prefix->default_.is_some = true;
    prefix->default_.val.tag = GADGET_FRAMEWORK_PARAMS_VALUE_TEXT;
    prefix->default_.val.val.text = copy("gadget");

    *ret = (exports_gadget_framework_module_description_t){
        .name = copy("metrics"),
        .version = copy("0.1.0"),
        .summary = copy("Counts the system calls of each container, for Prometheus."),
        .params = {prefix, 1},
    };
}

// The parameter `prefix` of this run. It has a default, so it is always there.
static text prefix(void) {
    gadget_framework_params_list_param_t params;
    gadget_framework_params_all(&params);
    for (size_t i = 0; i < params.len; i++) {
        if (equal(params.ptr[i].name, "prefix")) return params.ptr[i].value.val.text;
    }
    return (text){0};
}

static bool begins_a_name(text prefix) {
    for (size_t i = 0; i < prefix.len; i++) {
        uint8_t c = prefix.ptr[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && !(i > 0 && c >= '0' && c <= '9')) return false;
    }
    return prefix.len > 0;
}

// The value of a label. A command may be called anything.
static void add_label(text *to, const char *name, text value) {
    add(to, name);
    add(to, "=\"");
    for (size_t i = 0; i < value.len; i++) {
        text byte = {&value.ptr[i], 1};
        if (value.ptr[i] == '\n') add(to, "\\n");
        else if (value.ptr[i] == '\\') add(to, "\\\\");
        else if (value.ptr[i] == '"') add(to, "\\\"");
        else add_text(to, byte);
    }
    add(to, "\"");
}

// `namespace="shop",pod="cart-0",container="app"`.
static text labels_of(const gadget_framework_captures_container_t *container) {
    text labels = {0};
    if (container->pod.is_some) {
        add_label(&labels, "namespace", container->pod.val.namespace_);
        add(&labels, ",");
        add_label(&labels, "pod", container->pod.val.name);
        add(&labels, ",");
    }
    add_label(&labels, "container", container->name.is_some ? container->name.val : container->id);
    return labels;
}

static void add_head(text *to, text prefix, const char *name, const char *help) {
    for (int line = 0; line < 2; line++) {
        add(to, line == 0 ? "# HELP " : "# TYPE ");
        add_text(to, prefix);
        add(to, name);
        add(to, " ");
        add(to, line == 0 ? help : "gauge");
        add(to, "\n");
    }
}

static void add_calls(text *to, text prefix, text labels, gadget_framework_captures_list_syscall_t calls) {
    uint64_t counts[ABIS][PHASES] = {0};
    for (size_t c = 0; c < calls.len; c++) {
        for (int p = 0; p < PHASES; p++) {
            if (calls.ptr[c].phases & phases[p].flag) counts[calls.ptr[c].abi][p]++;
        }
    }
    for (int a = 0; a < ABIS; a++) {
        for (int p = 0; p < PHASES; p++) {
            if (counts[a][p] == 0 && a != GADGET_FRAMEWORK_CAPTURES_ABI_NATIVE) continue;
            add_text(to, prefix);
            add(to, "_syscalls{");
            add_text(to, labels);
            add(to, ",abi=\"");
            add(to, abis[a]);
            add(to, "\",phase=\"");
            add(to, phases[p].name);
            add(to, "\"} ");
            add_number(to, counts[a][p]);
            add(to, "\n");
        }
    }
}

static void add_completeness(text *to, text prefix, text labels, gadget_framework_captures_completeness_t found) {
    add_text(to, prefix);
    add(to, "_recording_complete{");
    add_text(to, labels);
    add(to, "} ");
    add_number(to, found.from_start && found.losses.len == 0);
    add(to, "\n");
}

// What the module does. False: it failed, and `err` says why.
bool exports_gadget_framework_gadget_generate(exports_gadget_framework_gadget_reason_t reason,
                                              exports_gadget_framework_gadget_list_own_capture_t *captures,
                                              exports_gadget_framework_gadget_error_t *err) {
    (void)reason;
    text begin = prefix();
    if (!begins_a_name(begin)) {
        err->tag = EXPORTS_GADGET_FRAMEWORK_GADGET_ERROR_INVALID_PARAMETER;
        err->val.invalid_parameter = copy("prefix: no metric can be called ");
        add_text(&err->val.invalid_parameter, begin);
        return false;
    }
    // One document for all: a metric's samples stand together.
    text counts = {0}, complete = {0};
    add_head(&counts, begin, "_syscalls", "Distinct system calls that a container made while it was recorded.");
    add_head(&complete, begin, "_recording_complete",
             "Whether the recording began with the container and lost nothing.");
    gadget_framework_captures_borrow_capture_t *about = calloc(captures->len, sizeof *about);
    for (size_t i = 0; i < captures->len; i++) {
        about[i] = gadget_framework_captures_borrow_capture(captures->ptr[i]);
        gadget_framework_captures_container_t container;
        gadget_framework_captures_method_capture_container(about[i], &container);
        gadget_framework_captures_list_syscall_t calls;
        gadget_framework_captures_method_capture_syscalls(about[i], &calls);
        gadget_framework_captures_completeness_t completeness;
        gadget_framework_captures_method_capture_completeness(about[i], &completeness);
        text labels = labels_of(&container);
        add_calls(&counts, begin, labels, calls);
        add_completeness(&complete, begin, labels, completeness);
    }
    add_text(&counts, complete);
    gadget_framework_output_document_t document = {copy("text/plain"), counts};
    gadget_framework_output_list_borrow_capture_t of = {about, captures->len};
    if (!gadget_framework_output_emit(&document, &of, &err->val.output)) {
        err->tag = EXPORTS_GADGET_FRAMEWORK_GADGET_ERROR_OUTPUT;
        return false;
    }
    return true;
}

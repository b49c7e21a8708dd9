// Lists the system calls that each container made.
//
// Every run has a fresh instance, whose memory goes with it: what is allocated here is not freed, except by the bindings.

#include <stdlib.h>

#include "guest.h"
#include "text.h"

#define ANY (GADGET_FRAMEWORK_CAPTURES_PHASES_APPLICATION | GADGET_FRAMEWORK_CAPTURES_PHASES_RUNTIME)

// What the module says of itself.
void exports_gadget_framework_module_describe(exports_gadget_framework_module_description_t *ret) {
    static const char *const phases[] = {"any", "application", "runtime"};
    size_t count = sizeof phases / sizeof *phases;
    gadget_framework_params_spec_t *phase = calloc(1, sizeof *phase);
    phase->name = copy("phase");
    phase->help = copy("Which part of the container's life is looked at.");
    phase->kind.tag = GADGET_FRAMEWORK_PARAMS_KIND_CHOICE;
    phase->kind.val.choice.ptr = calloc(count, sizeof(text));
    phase->kind.val.choice.len = count;
    for (size_t i = 0; i < count; i++) phase->kind.val.choice.ptr[i] = copy(phases[i]);
    phase->default_.is_some = true;
    phase->default_.val.tag = GADGET_FRAMEWORK_PARAMS_VALUE_TEXT;
    phase->default_.val.val.text = copy("any");

    *ret = (exports_gadget_framework_module_description_t){
        .name = copy("my-module"),
        .version = copy("0.1.0"),
        .summary = copy("Lists the system calls of each container."),
        .params = {phase, 1},
    };
}

// The parameter `phase` of this run. It has a default, so it is always there.
static gadget_framework_captures_phases_t wanted_phases(void) {
    gadget_framework_params_list_param_t params;
    gadget_framework_params_all(&params);
    for (size_t i = 0; i < params.len; i++) {
        if (!equal(params.ptr[i].name, "phase")) continue;
        text phase = params.ptr[i].value.val.text;
        if (equal(phase, "application")) return GADGET_FRAMEWORK_CAPTURES_PHASES_APPLICATION;
        if (equal(phase, "runtime")) return GADGET_FRAMEWORK_CAPTURES_PHASES_RUNTIME;
    }
    return ANY;
}

// The shortest text that tells a person which container is meant.
static text title(const gadget_framework_captures_container_t *container) {
    text title = {0};
    if (container->pod.is_some) {
        add_text(&title, container->pod.val.namespace_);
        add(&title, "/");
        add_text(&title, container->pod.val.name);
        add(&title, "/");
    }
    add_text(&title, container->name.is_some ? container->name.val : container->id);
    return title;
}

// `read`, `number 1000` where no table knows it, `time (compat)` where it was not made in the machine's own ABI.
static void add_line(text *to, const gadget_framework_captures_syscall_t *call) {
    add(to, "  ");
    if (call->name.is_some) {
        add_text(to, call->name.val);
    } else {
        add(to, "number ");
        add_number(to, call->number);
    }
    if (call->abi == GADGET_FRAMEWORK_CAPTURES_ABI_COMPAT) add(to, " (compat)");
    if (call->abi == GADGET_FRAMEWORK_CAPTURES_ABI_X32) add(to, " (x32)");
    add(to, "\n");
}

static void warn(const char *message, text container) {
    text line = copy(message);
    gadget_framework_log_field_t field = {copy("container"), container};
    gadget_framework_log_list_field_t fields = {&field, 1};
    gadget_framework_log_log(GADGET_FRAMEWORK_LOG_LEVEL_WARN, &line, &fields);
}

// What the module does. False: it failed, and `err` says why.
bool exports_gadget_framework_gadget_generate(exports_gadget_framework_gadget_reason_t reason,
                                              exports_gadget_framework_gadget_list_own_capture_t *captures,
                                              exports_gadget_framework_gadget_error_t *err) {
    (void)reason;
    gadget_framework_captures_phases_t wanted = wanted_phases();
    for (size_t i = 0; i < captures->len; i++) {
        gadget_framework_captures_borrow_capture_t capture =
            gadget_framework_captures_borrow_capture(captures->ptr[i]);
        gadget_framework_captures_container_t container;
        gadget_framework_captures_method_capture_container(capture, &container);
        text name = title(&container);

        gadget_framework_captures_completeness_t completeness;
        gadget_framework_captures_method_capture_completeness(capture, &completeness);
        if (completeness.losses.len > 0) warn("the recording is incomplete", name);

        gadget_framework_captures_list_syscall_t calls;
        gadget_framework_captures_method_capture_syscalls(capture, &calls);
        size_t count = 0;
        text lines = {0};
        for (size_t c = 0; c < calls.len; c++) {
            if (!(calls.ptr[c].phases & wanted)) continue;
            add_line(&lines, &calls.ptr[c]);
            count++;
        }
        if (count == 0) {
            err->tag = EXPORTS_GADGET_FRAMEWORK_GADGET_ERROR_EMPTY;
            err->val.empty = name;
            return false;
        }

        text body = {0};
        add_text(&body, name);
        add(&body, ": ");
        add_number(&body, count);
        add(&body, " system calls\n");
        add_text(&body, lines);
        gadget_framework_output_document_t document = {copy("text/plain"), body};
        gadget_framework_output_list_borrow_capture_t about = {&capture, 1};
        if (!gadget_framework_output_emit(&document, &about, &err->val.output)) {
            err->tag = EXPORTS_GADGET_FRAMEWORK_GADGET_ERROR_OUTPUT;
            return false;
        }
    }
    return true;
}

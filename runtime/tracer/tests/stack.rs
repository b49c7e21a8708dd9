//! The eBPF programs read nothing from their stack that they have not written.
//!
//! Before Linux 6.3 the verifier refuses a program that may; later ones let it pass for who has `CAP_PERFMON`, so a
//! kernel that is newer than those that gadgetd has to run on does not show the fault. The compiler makes such reads where
//! it copies a value that is there on some paths only, the payload of an `Option` for one.
//!
//! This check is stricter than any verifier: it does not know which paths the program's own conditions exclude.
#![allow(missing_docs)] // A test.

use std::collections::BTreeMap;

use aya_obj::{Object, generated::bpf_insn};

#[repr(align(8))]
struct Aligned<T: ?Sized>(T);

static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("EBPF_OBJECT")));

/// Bytes of a program's stack (`MAX_BPF_STACK`).
const STACK: usize = 512;

/// Register 10, the frame pointer.
const FRAME: usize = 10;

/// What is known before an instruction, on whatever path it was reached.
#[derive(Clone, PartialEq)]
struct State {
    /// Which bytes were written, the lowest address first.
    written: [bool; STACK],
    /// Registers that point into the stack: how far from its end.
    pointers: [Option<i32>; 11],
    /// The same for registers that were saved in the stack.
    saved: BTreeMap<i32, i32>,
}

impl State {
    fn at_the_start() -> Self {
        let mut pointers = [None; 11];
        pointers[FRAME] = Some(0);
        Self { written: [false; STACK], pointers, saved: BTreeMap::new() }
    }

    /// What is known when the other path may have been taken as well.
    fn join(&mut self, other: &Self) {
        for (here, there) in self.written.iter_mut().zip(&other.written) {
            *here &= there;
        }
        for (here, there) in self.pointers.iter_mut().zip(&other.pointers) {
            *here = here.filter(|_| here == there);
        }
        self.saved.retain(|at, pointer| other.saved.get(at) == Some(pointer));
    }

    fn bytes(&mut self, at: i32, length: usize) -> &mut [bool] {
        let begin = usize::try_from(at + 512).expect("within the stack");
        &mut self.written[begin..(begin + length).min(STACK)]
    }
}

/// Parts of an instruction's code (`linux/bpf_common.h`, `linux/bpf.h`).
mod code {
    pub(super) const LDX: u8 = 0x01;
    pub(super) const ST: u8 = 0x02;
    pub(super) const STX: u8 = 0x03;
    pub(super) const JMP: u8 = 0x05;
    pub(super) const JMP32: u8 = 0x06;
    pub(super) const ATOMIC: u8 = 0xc0;
    pub(super) const MOV_REGISTER: u8 = 0xbf;
    pub(super) const ADD_NUMBER: u8 = 0x07;
    pub(super) const JUMP: u8 = 0x05;
    pub(super) const JUMP_FAR: u8 = 0x06;
    pub(super) const CALL: u8 = 0x85;
    pub(super) const EXIT: u8 = 0x95;
}

/// Reads of bytes that may not have been written: at which instruction, and where on the stack.
fn unwritten_reads(program: &[bpf_insn]) -> Vec<(usize, i32)> {
    let mut known: Vec<Option<State>> = vec![None; program.len()];
    let mut reads = Vec::new();
    let mut next = vec![(0, State::at_the_start())];
    while let Some((index, state)) = next.pop() {
        let joined = match &known[index] {
            None => state,
            Some(before) => {
                let mut joined = before.clone();
                joined.join(&state);
                if joined == *before {
                    continue;
                }
                joined
            }
        };
        known[index] = Some(joined.clone());
        let mut state = joined;
        if let Some(at) = step(program[index], &mut state) {
            reads.push((index, at));
        }
        next.extend(successors(program, index).into_iter().map(|to| (to, state.clone())));
    }
    reads.sort_unstable();
    reads.dedup();
    reads
}

/// Does what an instruction does; returns where it reads what may not have been written.
fn step(instruction: bpf_insn, state: &mut State) -> Option<i32> {
    let (to, from) = (usize::from(instruction.dst_reg()), usize::from(instruction.src_reg()));
    let size = match instruction.code & 0x18 {
        0x00 => 4,
        0x08 => 2,
        0x10 => 1,
        _ => 8,
    };
    let place = |state: &State, register: usize| Some(state.pointers[register]? + i32::from(instruction.off));
    match instruction.code & 0x07 {
        code::LDX => {
            let at = place(state, from);
            state.pointers[to] = at.filter(|_| size == 8).and_then(|at| state.saved.get(&at).copied());
            at.filter(|at| state.bytes(*at, size).contains(&false))
        }
        code::STX if instruction.code & 0xe0 == code::ATOMIC => {
            place(state, to).filter(|at| state.bytes(*at, size).contains(&false))
        }
        class @ (code::ST | code::STX) => {
            if let Some(at) = place(state, to) {
                state.bytes(at, size).fill(true);
                state.saved.retain(|saved, _| *saved + 8 <= at || at + 8 <= *saved);
                let pointer = state.pointers[from].filter(|_| class == code::STX && size == 8);
                state.saved.extend(pointer.map(|pointer| (at, pointer)));
            }
            None
        }
        code::JMP if instruction.code == code::CALL => {
            // A function may write to what it is given a place in. Which does, only the verifier knows.
            for argument in 1..=5 {
                if let Some(at) = state.pointers[argument] {
                    state.bytes(at, STACK).fill(true);
                }
            }
            state.pointers[..=5].fill(None);
            None
        }
        code::JMP | code::JMP32 => None,
        _ => {
            state.pointers[to] = match instruction.code {
                code::MOV_REGISTER => state.pointers[from],
                code::ADD_NUMBER => state.pointers[to].map(|at| at + instruction.imm),
                _ => None,
            };
            None
        }
    }
}

/// Which instructions may come after one.
fn successors(program: &[bpf_insn], index: usize) -> Vec<usize> {
    let instruction = &program[index];
    let to =
        |distance: i64| usize::try_from(i64::try_from(index).expect("small") + 1 + distance).expect("inside");
    let near = i64::from(instruction.off);
    match instruction.code {
        code::EXIT => vec![],
        code::JUMP => vec![to(near)],
        code::JUMP_FAR => vec![to(i64::from(instruction.imm))],
        // A number of 64 bits takes two.
        0x18 => vec![to(1)],
        code if code != code::CALL && matches!(code & 0x07, code::JMP | code::JMP32) => vec![to(0), to(near)],
        _ => vec![to(0)],
    }
}

#[test]
fn no_program_reads_what_it_has_not_written() {
    let object = Object::parse(&FILE.0).expect("the object is well-formed");
    assert!(object.functions.len() >= object.programs.len(), "every program is a function");
    let faults: Vec<String> = object
        .functions
        .values()
        .flat_map(|function| {
            let reads = unwritten_reads(&function.instructions).into_iter();
            reads.map(|(index, at)| format!("{}: instruction {index} reads r10{at}", function.name))
        })
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn the_check_knows_a_fault_from_none() {
    let instruction = |code: u8, to: u8, from: u8, off: i16, imm: i32| bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(to, from),
        off,
        imm,
    };
    let save = instruction(0x7b, 10, 1, -8, 0);
    let load = instruction(0x79, 2, 10, -8, 0);
    let skip_one_if_zero = instruction(0x15, 1, 0, 1, 0);
    let end = instruction(code::EXIT, 0, 0, 0, 0);

    assert_eq!(unwritten_reads(&[save, load, end]), []);
    assert_eq!(unwritten_reads(&[load, end]), [(0, -8)]);
    assert_eq!(unwritten_reads(&[skip_one_if_zero, save, load, end]), [(2, -8)], "on one path only");

    // r3 = r10 - 16; *(u32 *)(r3 + 8) = r1: half of what is read.
    let copy = instruction(code::MOV_REGISTER, 3, 10, 0, 0);
    let lower = instruction(code::ADD_NUMBER, 3, 0, 0, -16);
    let store_half = instruction(0x63, 3, 1, 8, 0);
    assert_eq!(unwritten_reads(&[copy, lower, store_half, load, end]), [(3, -8)]);
    let other_half = instruction(0x63, 3, 1, 12, 0);
    assert_eq!(unwritten_reads(&[copy, lower, store_half, other_half, load, end]), []);

    // A pointer into the stack that is saved there, and used again.
    let save_pointer = instruction(0x7b, 10, 3, -24, 0);
    let load_pointer = instruction(0x79, 4, 10, -24, 0);
    let store_whole = instruction(0x7b, 4, 1, 8, 0);
    assert_eq!(unwritten_reads(&[copy, lower, save_pointer, load_pointer, store_whole, load, end]), []);

    // A function writes to the place that it is given.
    let argument = instruction(code::MOV_REGISTER, 1, 10, 0, 0);
    let down = instruction(code::ADD_NUMBER, 1, 0, 0, -8);
    let call = instruction(code::CALL, 0, 0, 0, 113);
    assert_eq!(unwritten_reads(&[argument, down, call, load, end]), []);
}
